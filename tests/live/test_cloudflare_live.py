"""The kits at Cloudflare, by a Worker of one's own: only with ``--live cloudflare``, see support/live.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.live import LIFETIME, Budget, live_run

from agenthost import SandboxSpec
from agenthost.testing import HostedAgentConformance, SandboxConformance


@pytest.fixture(scope="session")
def cloudflare_budget(pytestconfig: pytest.Config) -> Iterator[Budget]:
    """Give what may be spent."""
    yield from live_run("cloudflare", pytestconfig)


@pytest.fixture(autouse=True)
def within_budget(cloudflare_budget: Budget) -> None:
    """Make nothing after that."""
    cloudflare_budget.check()


class TestCloudflareLive(SandboxConformance):
    provider_name = "cloudflare"
    spec = SandboxSpec(max_lifetime=LIFETIME)


class TestCloudflareAgentLive(HostedAgentConformance):
    provider_name = "cloudflare"
    spec = SandboxSpec(max_lifetime=LIFETIME)
