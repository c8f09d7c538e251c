"""Which worker runs a test, and after how long a test that hangs is failed.

The tests of one file stay on one worker, since what a module sets up is made once for them. Those that need
something costly stay together, an engine or a baked image: each worker would make its own.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # pyright: ignore[reportMissingTypeStubs] - it has none

# Seconds until a test counts as hung. Not a bound on its speed: the slowest take a tenth of it on two cores.
_HUNG = 300
_HUNG_FULL = 900  # with --full, where many try more
_TOGETHER = (
    "tests/cli/test_bake.py",
    "tests/config/test_page.py",
    "tests/docker/",
    "tests/e2b/",
    "tests/emulators/",
    "tests/examples/test_anywhere.py",
    "tests/modal_provider/",
)


# What has the longest tests begins first, or one worker would end long after the others.
_FIRST = (*_TOGETHER, "tests/conformance/", "tests/faults/", "tests/parity/", "tests/agent/", "tests/cli/")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests in order, and say for each when it is given up."""
    items.sort(key=_rank)  # those of a file stay in theirs
    hung = _HUNG_FULL if config.getoption("--full") else _HUNG
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(hung))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Hand out files, or whole suites."""
    return _Files(config, log)


def _rank(item: pytest.Item) -> int:
    ranks = [rank for rank, path in enumerate(_FIRST) if item.nodeid.startswith(path)]
    return min(ranks, default=len(_FIRST))


class _Files(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "together" if path.startswith(_TOGETHER) else path
