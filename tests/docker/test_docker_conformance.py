"""The docker provider keeps the contract, over both carriers."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from docker.docker_engine import DockerEngine, ask, needs_its_files

from agenthost import SandboxProvider
from agenthost.testing import HostedAgentConformance, SandboxConformance


class Docker:
    provider_name = "docker"
    host = ""

    async def forget_image(self, provider: SandboxProvider, image: str) -> None:
        """Remove a snapshot, which the engine would keep."""
        del provider
        assert ask(self.host, "DELETE", f"/images/{image}")[0] == 200


class ByStdio(Docker):
    @pytest.fixture
    def provider_options(self, docker_engine: DockerEngine, baked: str) -> Mapping[str, object]:
        del baked
        self.host = docker_engine.host
        return {"host": docker_engine.host}


class BySocket(Docker):
    @pytest.fixture
    def provider_options(self, docker_engine: DockerEngine, baked: str) -> Mapping[str, object]:
        del baked
        self.host = docker_engine.host
        needs_its_files(docker_engine)
        return {"host": docker_engine.host, "carrier": "socket"}


class TestDocker(ByStdio, SandboxConformance): ...


class TestDockerAgent(ByStdio, HostedAgentConformance): ...


@pytest.mark.full
class TestDockerBySocket(BySocket, SandboxConformance):
    @pytest.fixture(scope="module")
    @classmethod
    def anyio_backend(cls) -> str:
        """Run once: only the carrier is another one, whose own tests and whose agents run on both."""
        return "asyncio"


@pytest.mark.full
class TestDockerAgentBySocket(BySocket, HostedAgentConformance): ...
