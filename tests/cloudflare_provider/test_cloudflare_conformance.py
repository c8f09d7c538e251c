"""The cloudflare provider keeps the contract: the real Worker, an engine as hostile as Cloudflare's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from agenthost.testing import HostedAgentConformance, SandboxConformance
from agenthost.testing.emulators.cloudflare import Emulator, emulator

pytestmark = pytest.mark.full  # the normal run has both kits on `local`


@pytest.fixture(scope="module", params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on asyncio alone: the other files try both loops, and other providers have the kits on trio."""
    backend: str = request.param
    return backend


@pytest.fixture(scope="module")
async def cloudflare(anyio_backend: str, cloudflare_site: Path) -> AsyncIterator[Emulator]:
    """Give an emulator whose image has the SDK."""
    del anyio_backend
    async with emulator(site=cloudflare_site) as running:
        yield running
        assert running.unknown == []


class TestCloudflare(SandboxConformance):
    provider_name = "cloudflare"
    known_deviations: ClassVar[Mapping[str, str]] = {
        "test_another_user_is_that_user_or_is_refused": "a machine of the emulator has one user alone"
    }

    @pytest.fixture
    def provider_options(self, cloudflare: Emulator) -> Mapping[str, object]:
        return cloudflare.options


class TestCloudflareAgent(HostedAgentConformance):
    provider_name = "cloudflare"

    @pytest.fixture
    def provider_options(self, cloudflare: Emulator) -> Mapping[str, object]:
        return cloudflare.options
