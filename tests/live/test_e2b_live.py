"""The kits at E2B itself: only with ``--live e2b``, see support/live.py."""

from __future__ import annotations

from collections.abc import Iterator

import e2b as vendor
import pytest
from support.live import LIFETIME, Budget, live_run

from agenthost import SandboxProvider, SandboxSpec
from agenthost.testing import HostedAgentConformance, SandboxConformance


@pytest.fixture(scope="session")
def e2b_budget(pytestconfig: pytest.Config) -> Iterator[Budget]:
    """Give what may be spent."""
    yield from live_run("e2b", pytestconfig)


@pytest.fixture(autouse=True)
def within_budget(e2b_budget: Budget) -> None:
    """Make nothing after that."""
    e2b_budget.check()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on asyncio alone, as E2B's client does."""
    return "asyncio"


class TestE2BLive(SandboxConformance):
    provider_name = "e2b"
    spec = SandboxSpec(max_lifetime=LIFETIME)
    outside = ("pypi.org", 443)

    async def forget_image(self, provider: SandboxProvider, image: str) -> None:
        """Remove a snapshot, which E2B would keep."""
        del provider
        assert await vendor.AsyncSandbox.delete_snapshot(image)


class TestE2BAgentLive(HostedAgentConformance):
    provider_name = "e2b"
    spec = SandboxSpec(max_lifetime=LIFETIME)
