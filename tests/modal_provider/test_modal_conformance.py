"""The modal provider keeps the contract, through Modal's own client."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from agenthost.testing import HostedAgentConformance, SandboxConformance
from agenthost.testing.emulators.modal import ModalEmulator


class TestModal(SandboxConformance):
    provider_name = "modal"

    @pytest.fixture
    def provider_options(self, modal: ModalEmulator) -> Mapping[str, object]:
        return modal.options


class TestModalAgent(HostedAgentConformance):
    provider_name = "modal"

    @pytest.fixture
    def provider_options(self, modal: ModalEmulator) -> Mapping[str, object]:
        return modal.options
