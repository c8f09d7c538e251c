"""The image that the tests of the docker provider make sandboxes from: baked once in a run."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest
from docker.docker_engine import DockerEngine

from agenthost.providers.docker.provider import DockerProvider
from agenthost.supports import ImageRecipe


@pytest.fixture(scope="session")
def wheels(wheelhouse: Path) -> dict[str, str]:
    """Give the environment in which pip and uv find the SDK, and all that it needs, without a network."""
    directory = str(wheelhouse)
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": directory, "PIP_CONFIG_FILE": os.devnull}
    return {**pip, "UV_NO_INDEX": "1", "UV_FIND_LINKS": directory}


@pytest.fixture(scope="session")
def baked(docker_engine: DockerEngine, wheels: dict[str, str]) -> str:
    """Give the image."""

    async def bake() -> str:
        async with DockerProvider(host=docker_engine.host) as provider:
            return await provider.build(ImageRecipe(base=docker_engine.base))

    with pytest.MonkeyPatch.context() as patch:
        for name, value in wheels.items():
            patch.setenv(name, value)
        return anyio.run(bake)
