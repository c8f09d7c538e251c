"""What every test of the docker provider gets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import pytest
from docker.docker_engine import DockerEngine, ask

from agenthost.link.client import GuestSandbox
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.provider import DockerProvider
from agenthost.spec import SandboxSpec


@pytest.fixture(scope="module")
async def provider(
    anyio_backend: str, docker_engine: DockerEngine, baked: str
) -> AsyncIterator[DockerProvider]:
    """Give the provider, open."""
    del anyio_backend, baked
    async with DockerProvider(host=docker_engine.host) as opened:
        yield opened


@pytest.fixture(scope="module")
async def engine(anyio_backend: str, provider: DockerProvider) -> AsyncIterator[Engine]:
    """Give another client of the engine: what the tests look with."""
    del anyio_backend
    opened = Engine(provider.address)
    try:
        yield opened
    finally:
        await opened.aclose()


@pytest.fixture(scope="module")
async def box(provider: DockerProvider) -> AsyncIterator[GuestSandbox]:
    """Give a sandbox that the tests of a module share: they leave no process and no file behind in it."""
    sandbox = await provider.create(SandboxSpec(env={"OF_THE_SANDBOX": "a-secret-value"}))
    try:
        yield sandbox
    finally:
        await sandbox.terminate()


@pytest.fixture(autouse=True)
def leaves_no_container(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves a container or a volume behind, beside those of its module."""
    engines = [name for name in ("docker_engine", "podman_engine") if name in request.fixturenames]
    if not engines:
        yield
        return
    host = request.getfixturevalue(engines[0]).host
    before = _what_there_is(host)
    yield
    left = _what_there_is(host) - before
    assert not left, f"left behind: {left}"


def _what_there_is(host: str) -> set[str]:
    containers: list[dict[str, object]] = json.loads(ask(host, "GET", "/containers/json?all=1")[1])
    volumes: list[dict[str, object]] = json.loads(ask(host, "GET", "/volumes")[1])["Volumes"] or []
    return {str(one["Id"]) for one in containers} | {str(one["Name"]) for one in volumes}
