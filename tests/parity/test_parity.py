"""The same steps through the bare SDK and through a hosted agent show the same, field by field.

The normal run has as few scenarios as cover everything that the SDK offers, each in one place; --full has
all. What the bare SDK shows is kept for the other places of a scenario.
"""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from parity.compare import compare
from parity.scenario import Scenario
from parity.sides import play
from parity.table import TABLE, normal_ones

# The SDK leaves the pipes of its CLI to the garbage collector, which may come when their loop has ended.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <function BaseSubprocessTransport.__del__"
    ":pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """Collect what the bare SDK has left, before another module's tests are blamed for it."""
    yield
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()


@dataclass(frozen=True, slots=True)
class Case:
    """One scenario in one place."""

    scenario: Scenario
    provider: str
    backend: str

    def __str__(self) -> str:
        return f"{self.scenario.name.replace(' ', '_')}-{self.provider}-{self.backend}"


def _cases() -> Iterator[Any]:
    normal = normal_ones()
    for one in TABLE:
        places = [(provider, "asyncio") for provider in one.on] + [(one.on[0], "trio")] * one.trio
        for place, (provider, backend) in enumerate(places):
            case = Case(one, provider, backend)
            is_normal = one.name in normal and place == 0
            yield pytest.param(case, id=str(case), marks=() if is_normal else pytest.mark.full)


@pytest.fixture(params=_cases())
def case(request: pytest.FixtureRequest) -> Case:
    """Return each scenario, wherever it runs."""
    found: Case = request.param
    return found


@pytest.fixture
def anyio_backend(case: Case) -> str:
    """Run each case on its own backend."""
    return case.backend


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a directory with a short name: the CLI has a socket in it."""
    with TemporaryDirectory(prefix="") as name:
        yield Path(name)


_bare: dict[str, Any] = {}


async def test_a_hosted_agent_shows_what_the_bare_sdk_shows(case: Case, directory: Path) -> None:
    bare, hosted = await play(case.scenario, directory, case.provider, bare=_bare.get(case.scenario.name))
    _bare[case.scenario.name] = bare

    found = compare(bare, hosted, case.scenario.masks)
    if found.differences:
        told = "\n  ".join(str(one) for one in found.differences[:10])
        pytest.fail(f"{len(found.differences)} differences:\n  {told}", pytrace=False)
    missing = case.scenario.masks - found.masked
    assert not missing, f"these differences are not there any more, take the masks away: {missing}"
    text = json.dumps(bare)
    hidden = [words for words in case.scenario.shows if words not in text]
    assert not hidden, f"the scenario does not show what it is for: {hidden}"
