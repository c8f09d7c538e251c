"""The docker provider keeps the contract, over both carriers."""

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


@pytest.mark.full
class TestDockerByItsSocket(SandboxConformance):
    provider_name = "docker"

    @pytest.fixture(scope="class")
    def anyio_backend(self) -> str:
        """Once: only the carrier is another one, which has tests of its own on both."""
        return "asyncio"

    @pytest.fixture
    def provider_options(self, docker_engine: DockerEngine, baked: str) -> Mapping[str, object]:
        del baked
        if not docker_engine.private:
            pytest.skip("not in CI: the engine's files may be another machine's")
        return {"host": docker_engine.host, "carrier": "socket"}
