"""The fly provider keeps the contract, against an emulator as hostile as Fly."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from agenthost.testing import HostedAgentConformance, SandboxConformance
from agenthost.testing.emulators.fly import Emulator, emulator

pytestmark = pytest.mark.full  # the normal run has both kits on `local`


@pytest.fixture(scope="module")
async def fly(anyio_backend: str, fly_images: Mapping[str, Path]) -> AsyncIterator[Emulator]:
    """Give an emulator whose image has the SDK."""
    del anyio_backend
    async with emulator(images=fly_images) as running:
        yield running
        assert running.unknown == []


class TestFly(SandboxConformance):
    provider_name = "fly"
    known_deviations: ClassVar[Mapping[str, str]] = {
        "test_another_user_is_that_user_or_is_refused": "the machine of the emulator has one user alone"
    }

    @pytest.fixture
    def provider_options(self, fly: Emulator) -> Mapping[str, object]:
        return fly.options


class TestFlyAgent(HostedAgentConformance):
    provider_name = "fly"

    @pytest.fixture
    def provider_options(self, fly: Emulator) -> Mapping[str, object]:
        return fly.options
