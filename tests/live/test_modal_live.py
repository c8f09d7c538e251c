"""The kits at Modal itself: only with ``--live modal``, see support/live.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.live import LIFETIME, Budget, live_run

from agenthost import SandboxSpec
from agenthost.testing import HostedAgentConformance, SandboxConformance


@pytest.fixture(scope="session")
def modal_budget(pytestconfig: pytest.Config) -> Iterator[Budget]:
    """Give what may be spent."""
    yield from live_run("modal", pytestconfig)


@pytest.fixture(autouse=True)
def within_budget(modal_budget: Budget) -> None:
    """Make nothing after that."""
    modal_budget.check()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on asyncio alone, as Modal's client does."""
    return "asyncio"


class TestModalLive(SandboxConformance):
    provider_name = "modal"
    spec = SandboxSpec(max_lifetime=LIFETIME)
    outside = ("pypi.org", 443)
    patience = 600.0


class TestModalAgentLive(HostedAgentConformance):
    provider_name = "modal"
    spec = SandboxSpec(max_lifetime=LIFETIME)
    patience = 600.0
