"""The local providers keep the contract."""

from __future__ import annotations

from agenthost.testing import SandboxConformance


class TestLocal(SandboxConformance):
    provider_name = "local"


class TestLocalUnisolated(SandboxConformance):
    provider_name = "local-unisolated"
