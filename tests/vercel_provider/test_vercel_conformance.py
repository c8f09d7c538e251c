"""The vercel provider keeps the contract, by its own calls against an emulator as hostile as Vercel."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from agenthost.testing import HostedAgentConformance, SandboxConformance
from agenthost.testing.emulators.vercel import Emulator

pytestmark = pytest.mark.full  # the normal run has both kits on `local`


@pytest.fixture(scope="module", params=["trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on trio alone: the other files try both loops, and the port has the kit on asyncio."""
    backend: str = request.param
    return backend


class TestVercel(SandboxConformance):
    provider_name = "vercel"

    @pytest.fixture
    def provider_options(self, vercel: Emulator) -> Mapping[str, object]:
        return vercel.options


class TestVercelAgent(HostedAgentConformance):
    provider_name = "vercel"

    @pytest.fixture
    def provider_options(self, vercel: Emulator) -> Mapping[str, object]:
        return vercel.options
