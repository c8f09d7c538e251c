"""The e2b provider keeps the contract, by the vendor's own client against an emulator as hostile as E2B."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from agenthost.testing import HostedAgentConformance, SandboxConformance
from agenthost.testing.emulators.e2b import Emulator

pytestmark = pytest.mark.full  # the normal run has both kits on `local`


class TestE2B(SandboxConformance):
    provider_name = "e2b"

    @pytest.fixture
    def provider_options(self, e2b: Emulator) -> Mapping[str, object]:
        return e2b.options


class TestE2BAgent(HostedAgentConformance):
    provider_name = "e2b"

    @pytest.fixture
    def provider_options(self, e2b: Emulator) -> Mapping[str, object]:
        return e2b.options
