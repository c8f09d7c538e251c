"""Hosts of containers are killed at any moment: after reap no container and no volume is left."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from support.docker_engine import DockerEngine
from support.killed_hosts import kill_hosts, reap_all

from agenthost.providers.docker.provider import DockerProvider

LIMIT = 900


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The hosts are programs of their own."""
    return "asyncio"


@pytest.mark.parametrize("count", [8, pytest.param(40, marks=pytest.mark.full)])
async def test_after_reap_nothing_of_killed_hosts_is_left(
    docker_engine: DockerEngine, baked: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int
) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    with anyio.fail_after(LIMIT):
        await kill_hosts(count, "docker", tmp_path, most=2.0)
        async with DockerProvider(host=docker_engine.host) as provider:
            found = await reap_all(provider)
            assert found, "every host had ended before it was killed"
            assert [one for one in found if one.outcome != "reaped"] == []
            assert [info.id async for info in provider.list()] == []
    assert baked  # what hosts without an image take; the containers and volumes are looked at by the conftest
