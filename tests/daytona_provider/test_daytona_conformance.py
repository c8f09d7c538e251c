"""The daytona provider keeps the contract, by both names of the vendor's client, against its emulator."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import pytest

from agenthost.providers.daytona import workarounds
from agenthost.testing import HostedAgentConformance, SandboxConformance
from agenthost.testing.emulators.daytona import Emulator

pytestmark = pytest.mark.full  # the normal run has both kits on `local`


class TestDaytona(SandboxConformance):
    provider_name = "daytona"

    @pytest.fixture
    def provider_options(self, daytona: Emulator) -> Mapping[str, object]:
        return daytona.options


class TestDaytonaAgent(HostedAgentConformance):
    provider_name = "daytona"

    @pytest.fixture
    def provider_options(self, daytona: Emulator) -> Mapping[str, object]:
        return daytona.options


@pytest.fixture
def under_its_former_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the package ``daytona-sdk`` alone: ``daytona`` is not found."""
    find = importlib.util.find_spec

    def find_others(name: str, package: str | None = None) -> Any:
        return None if name == workarounds.PACKAGE else find(name, package)

    monkeypatch.setattr("importlib.util.find_spec", find_others)
    assert workarounds.import_kit().__name__ == workarounds.FORMER


@pytest.mark.filterwarnings("ignore:The 'daytona_sdk' package is deprecated:DeprecationWarning")
@pytest.mark.usefixtures("under_its_former_name")
class TestDaytonaSdk(TestDaytona):
    """The same by ``daytona_sdk``."""


@pytest.mark.filterwarnings("ignore:The 'daytona_sdk' package is deprecated:DeprecationWarning")
@pytest.mark.usefixtures("under_its_former_name")
class TestDaytonaSdkAgent(TestDaytonaAgent):
    """The same by ``daytona_sdk``."""
