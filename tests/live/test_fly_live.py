"""The kits at Fly itself: only with ``--live fly``, see support/live.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.live import LIFETIME, Budget, live_run

from agenthost import SandboxSpec
from agenthost.testing import HostedAgentConformance, SandboxConformance


@pytest.fixture(scope="session")
def fly_budget(pytestconfig: pytest.Config) -> Iterator[Budget]:
    """Give what may be spent."""
    yield from live_run("fly", pytestconfig)


@pytest.fixture(autouse=True)
def within_budget(fly_budget: Budget) -> None:
    """Make nothing after that."""
    fly_budget.check()


class TestFlyLive(SandboxConformance):
    provider_name = "fly"
    spec = SandboxSpec(max_lifetime=LIFETIME)


class TestFlyAgentLive(HostedAgentConformance):
    provider_name = "fly"
    spec = SandboxSpec(max_lifetime=LIFETIME)
