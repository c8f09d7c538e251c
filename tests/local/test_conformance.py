"""The local providers keep the contract."""

from __future__ import annotations

import pytest

from agenthost.testing import HostedAgentConformance, SandboxConformance


class TestLocal(SandboxConformance):
    provider_name = "local"


@pytest.mark.full
class TestLocalUnisolated(SandboxConformance):
    provider_name = "local-unisolated"


class TestLocalAgent(HostedAgentConformance):
    provider_name = "local"


@pytest.mark.full
class TestLocalUnisolatedAgent(HostedAgentConformance):
    provider_name = "local-unisolated"
