"""Hosts of containers are killed, bakes too: after reap no container and no volume of theirs is left."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest
from docker.docker_engine import DockerEngine
from faults.killed_hosts import kill_hosts, reap_all
from support.command_line import COMMAND, environment

import agenthost
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.one_off import one_off, run
from agenthost.providers.docker.provider import DockerProvider

LIMIT = 900


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The hosts are programs of their own."""
    return "asyncio"


@pytest.mark.parametrize("count", [8, pytest.param(40, marks=pytest.mark.deep)])
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


@asynccontextmanager
async def baking(base: str, host: str, wheels: Mapping[str, str]) -> AsyncGenerator[anyio.abc.Process]:
    """Run ``agenthost bake docker`` in the block, and yield it when it has a builder, and stands still."""
    with tempfile.TemporaryDirectory() as directory:  # where a killed one leaves what it has downloaded
        env = environment({**wheels, "DOCKER_HOST": host, "TMPDIR": directory})
        argv = [COMMAND, "bake", "docker", "--force", "--base", base]
        async with await anyio.open_process(argv, env=env, stdout=subprocess.DEVNULL) as process:
            try:
                assert process.stderr is not None
                told = b""
                while b"putting it into the image" not in told:
                    told += await process.stderr.receive()
                process.send_signal(signal.SIGSTOP)
                yield process
            finally:
                if process.returncode is None:
                    process.kill()


async def test_the_builder_of_a_killed_bake_is_reaped_at_once_and_no_living_ones(
    provider: DockerProvider, engine: Engine, docker_engine: DockerEngine, baked: str, wheels: dict[str, str]
) -> None:
    async def reaped(*, dry_run: bool = False) -> dict[str, str]:
        told = await agenthost.reap(provider, dry_run=dry_run)
        return {one.info.id: f"{one.outcome}, {one.reason}" for one in told}

    kept = "kept, a builder of images: its owner lives"
    gone = "reaped, a builder of images: its owner has ended"
    with anyio.fail_after(LIMIT):
        async with (
            one_off(engine, baked, ["true"]) as living,
            baking(docker_engine.base, docker_engine.host, wheels) as bake,
        ):
            assert await run(engine, living, within=LIMIT)  # it has run, and its image is still to be made
            both = await reaped()
            assert both.pop(living) == kept
            ((theirs, told),) = both.items()
            assert told == kept
            bake.kill()
            await bake.wait()
            assert await reaped(dry_run=True) == {living: kept, theirs: gone}
            assert await reaped() == {living: kept, theirs: gone}
            assert await reaped() == {living: kept}
        assert await reaped() == {}
