"""The kits at Vercel itself: only with ``--live vercel``, see support/live.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from support.live import LIFETIME, Budget, live_run

from agenthost import SandboxSpec
from agenthost.testing import HostedAgentConformance, SandboxConformance


@pytest.fixture(scope="session")
def vercel_budget(pytestconfig: pytest.Config) -> Iterator[Budget]:
    """Give what may be spent."""
    yield from live_run("vercel", pytestconfig)


@pytest.fixture(autouse=True)
def within_budget(vercel_budget: Budget) -> None:
    """Make nothing after that."""
    vercel_budget.check()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on one event loop: what differs between the two is not Vercel's."""
    return "asyncio"


class TestVercelLive(SandboxConformance):
    provider_name = "vercel"
    spec = SandboxSpec(max_lifetime=LIFETIME)
    outside = ("pypi.org", 443)


class TestVercelAgentLive(HostedAgentConformance):
    provider_name = "vercel"
    spec = SandboxSpec(max_lifetime=LIFETIME)


class TestVercelPortLive(SandboxConformance):
    provider_name = "vercel"
    spec = SandboxSpec(max_lifetime=LIFETIME)

    @pytest.fixture
    def provider_options(self) -> Mapping[str, object]:
        """Reach the guests through their ports."""
        return {"carrier": "http"}
