"""The local providers keep the contract."""

from __future__ import annotations

from agenthost.testing import HostedAgentConformance, SandboxConformance


class TestLocal(SandboxConformance):
    provider_name = "local"


class TestLocalUnisolated(SandboxConformance):
    provider_name = "local-unisolated"


class TestLocalAgent(HostedAgentConformance):
    provider_name = "local"


class TestLocalUnisolatedAgent(HostedAgentConformance):
    provider_name = "local-unisolated"
