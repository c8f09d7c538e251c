"""The vercel provider keeps the contract, by its own calls against an emulator as hostile as Vercel."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from agenthost.testing import HostedAgentConformance, SandboxConformance
from agenthost.testing.emulators.vercel import Emulator

pytestmark = pytest.mark.full  # the normal run has both kits on `local`


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


class TestVercelPort(SandboxConformance):
    """The same through a port that is declared when a sandbox is made."""

    provider_name = "vercel"

    @pytest.fixture
    def provider_options(self, vercel: Emulator) -> Mapping[str, object]:
        return {**vercel.options, "carrier": "http"}
