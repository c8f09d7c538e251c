"""The kits at Daytona itself: only with ``--live daytona``, see support/live.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.live import LIFETIME, Budget, live_run

from agenthost import SandboxSpec
from agenthost.testing import HostedAgentConformance, SandboxConformance


@pytest.fixture(scope="session")
def daytona_budget(pytestconfig: pytest.Config) -> Iterator[Budget]:
    """Give what may be spent."""
    yield from live_run("daytona", pytestconfig)


@pytest.fixture(autouse=True)
def within_budget(daytona_budget: Budget) -> None:
    """Make nothing after that."""
    daytona_budget.check()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on asyncio, the only event loop that the vendor's client works on."""
    return "asyncio"


class TestDaytonaLive(SandboxConformance):
    provider_name = "daytona"
    spec = SandboxSpec(max_lifetime=LIFETIME)
    outside = ("pypi.org", 443)


class TestDaytonaAgentLive(HostedAgentConformance):
    provider_name = "daytona"
    spec = SandboxSpec(max_lifetime=LIFETIME)
