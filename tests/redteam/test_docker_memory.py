"""A file of a docker sandbox does not decide how much memory of the host it takes.

In a file of its own: the image is made in an event loop, which must be before that of a module's fixtures.
"""

from __future__ import annotations

import pytest
from docker.docker_engine import DockerEngine
from redteam.test_host_memory import TAKES_MEMORY, refuses_a_sparse_file

from agenthost.providers.docker.provider import DockerProvider
from agenthost.spec import SandboxSpec


@pytest.mark.full
@pytest.mark.attack(TAKES_MEMORY, "a sparse file larger than memory")
async def test_a_sparse_file_of_a_container_is_refused_by_its_size(
    docker_engine: DockerEngine, baked: str
) -> None:
    del baked
    async with DockerProvider(host=docker_engine.host) as opened:
        sandbox = await opened.create(SandboxSpec())
        try:
            await refuses_a_sparse_file(sandbox)
        finally:
            await sandbox.terminate()
