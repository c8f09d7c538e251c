"""The modal provider keeps the contract, through Modal's own client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from agenthost.testing import HostedAgentConformance, SandboxConformance
from agenthost.testing.emulators.modal import ModalEmulator

pytestmark = pytest.mark.full  # the normal run has both kits on `local`


class TestModal(SandboxConformance):
    provider_name = "modal"
    # Programs are root at Modal and may become anybody; the emulator's machines have one user alone.
    known_deviations: ClassVar[Mapping[str, str]] = {
        "test_another_user_is_that_user_or_is_refused": "the machine of the emulator has one user alone"
    }

    @pytest.fixture
    def provider_options(self, modal: ModalEmulator) -> Mapping[str, object]:
        return modal.options


class TestModalAgent(HostedAgentConformance):
    provider_name = "modal"

    @pytest.fixture
    def provider_options(self, modal: ModalEmulator) -> Mapping[str, object]:
        return modal.options
