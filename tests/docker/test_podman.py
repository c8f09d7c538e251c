"""podman serves Docker's API a little otherwise, and the provider works on it, too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import anyio
import pytest
from docker.docker_engine import DockerEngine
from support.inside import living

import agenthost
from agenthost.errors import SandboxGoneError, SandboxNotFoundError
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.one_off import one_off, run
from agenthost.providers.docker.provider import DockerProvider
from agenthost.spec import ResourceLimits, SandboxSpec
from agenthost.testing import SandboxConformance

IMAGE = "agenthost-test/own:latest"
LIMIT = 120


@pytest.fixture(scope="module")
async def podman(anyio_backend: str, podman_engine: DockerEngine) -> AsyncIterator[DockerProvider]:
    """Give the provider, on podman's service."""
    del anyio_backend
    async with DockerProvider(host=podman_engine.host) as opened:
        yield opened


async def test_a_sandbox_lives_on_podman_through_a_cut_until_it_is_ended(podman: DockerProvider) -> None:
    limits = ResourceLimits(memory_mib=300, cpu=0.5, pids=100)
    spec = SandboxSpec(image=IMAGE, labels={"team": "a"}, env={"OF_THE_SPEC": "ü"}, limits=limits)
    with anyio.fail_after(LIMIT):
        box = await podman.create(spec)
        try:
            said = await box.exec(["sh", "-c", "pwd; id -u; echo $OF_THE_SPEC; echo apart >&2; exit 3"])
            assert said.stdout.decode().split() == ["/workspace", "1000", "ü"]
            assert (said.stderr, said.exit_code) == (b"apart\n", 3)
            await box.write_file("a/b", b"\0\xff" * 100_000)
            assert await box.read_file("a/b") == b"\0\xff" * 100_000
            async with box.spawn(["cat"]) as cat:
                await cat.send_stdin(b"before\n")
                assert await cat.receive_stdout() == b"before\n"
                for dial in await living(box, "dial"):
                    await box.exec(["kill", "-9", str(dial)])
                await cat.send_stdin(b"behind\n")
                assert await cat.receive_stdout() == b"behind\n"
            assert [info.id async for info in podman.list({"team": "a"})] == [box.id]
            assert [info.id async for info in podman.list({"team": "b"})] == []
            wanted = {"memory": "300 MiB", "cpu": "0.5", "pids": "100", "network": "none"}
            assert wanted.items() <= (await box.info()).resources.items()
        finally:
            await box.terminate()
        with pytest.raises(SandboxGoneError):
            await box.exec(["true"])
        with pytest.raises(SandboxNotFoundError):
            await podman.get(box.id)
        assert [info.id async for info in podman.list()] == []


async def test_a_builder_on_podman_is_no_sandbox_and_is_kept_for_its_owner(podman: DockerProvider) -> None:
    engine = Engine(podman.address)
    try:
        async with one_off(engine, IMAGE, ["echo", "it ran"]) as builder:
            assert (await run(engine, builder, within=LIMIT)).stdout == b"it ran\n"
            assert [info.id async for info in podman.list()] == []
            told = [(one.info.id, one.outcome) for one in await agenthost.reap(podman)]
            assert told == [(builder, "kept")]
            await podman.remove_builder(builder)
            assert await agenthost.reap(podman) == []
    finally:
        await engine.aclose()


@pytest.mark.full
class TestPodman(SandboxConformance):
    provider_name = "docker"
    spec = SandboxSpec(image=IMAGE)

    @pytest.fixture(scope="module")
    @classmethod
    def anyio_backend(cls) -> str:
        """Run once: what differs from Docker is the engine."""
        return "asyncio"

    @pytest.fixture
    def provider_options(self, podman_engine: DockerEngine) -> Mapping[str, object]:
        return {"host": podman_engine.host}
