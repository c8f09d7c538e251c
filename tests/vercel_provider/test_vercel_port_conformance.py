"""Sandboxes of Vercel that are reached through a port, declared when they are made, keep the contract."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from agenthost.testing import SandboxConformance
from agenthost.testing.emulators.vercel import Emulator

# With --full the kit runs over HTTP for fly, daytona and cloudflare; one test of the lifecycle does so here.
pytestmark = [pytest.mark.full, pytest.mark.deep]


@pytest.fixture(scope="module", params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on asyncio alone: the kit by the streams of a program runs on trio."""
    backend: str = request.param
    return backend


class TestVercelPort(SandboxConformance):
    provider_name = "vercel"

    @pytest.fixture
    def provider_options(self, vercel: Emulator) -> Mapping[str, object]:
        return {**vercel.options, "carrier": "http"}
