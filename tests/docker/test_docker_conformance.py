"""The docker provider keeps the contract, over the carrier that it takes unless told."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from support.docker_engine import DockerEngine

from agenthost.testing import HostedAgentConformance, SandboxConformance


class TestDocker(SandboxConformance):
    provider_name = "docker"

    @pytest.fixture
    def provider_options(self, docker_engine: DockerEngine, baked: str) -> Mapping[str, object]:
        del baked
        return {"host": docker_engine.host}


class TestDockerAgent(HostedAgentConformance):
    provider_name = "docker"

    @pytest.fixture
    def provider_options(self, docker_engine: DockerEngine, baked: str) -> Mapping[str, object]:
        del baked
        return {"host": docker_engine.host}
