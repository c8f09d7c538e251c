"""The fly provider keeps the contract, against an emulator as hostile as Fly."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from agenthost.testing import HostedAgentConformance, SandboxConformance
from agenthost.testing.emulators.fly import Emulator

pytestmark = pytest.mark.full  # the normal run has both kits on `local`


class TestFly(SandboxConformance):
    provider_name = "fly"

    @pytest.fixture
    def provider_options(self, fly: Emulator) -> Mapping[str, object]:
        return fly.options


class TestFlyAgent(HostedAgentConformance):
    provider_name = "fly"

    @pytest.fixture
    def provider_options(self, fly: Emulator) -> Mapping[str, object]:
        return fly.options
