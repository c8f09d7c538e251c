"""A program inside takes memory until the host, or the guest that keeps its work, would have to go."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from docker.docker_engine import DockerEngine
from local.sandboxes import open_sandbox
from redteam.weakened import without_defaults

from agenthost.errors import AgentHostError, SandboxGoneError
from agenthost.link.client import GuestSandbox
from agenthost.providers.docker import bounds
from agenthost.providers.docker.provider import DockerProvider
from agenthost.providers.local import engine, isolated, limits
from agenthost.providers.local.provider import LocalProvider
from agenthost.spec import ResourceLimits, SandboxSpec

pytestmark = pytest.mark.skipif(
    "memory_mib" not in limits.supported_limits(),
    reason="not in CI: this machine has no control group for memory",
)
sandbox = partial(open_sandbox, LocalProvider)
LITTLE = SandboxSpec(limits=ResourceLimits(memory_mib=250))

# Each of them small, together more than there is.
MANY_SMALL = """
import os, signal
children = []
for _ in range(60):
    if (pid := os.fork()) == 0:
        block = b"x" * (8 << 20)
        signal.pause()
    children.append(pid)
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""
ONE_LARGE = """
block = b"x" * (300 << 20)
print("taken")
"""
# Memory that no killed process gives back.
FILES_IN_MEMORY = """
import os
for folder in ("/tmp", "/dev/shm"):
    try:
        with open(folder + "/block", "wb", buffering=0) as file:
            for _ in range(200):
                file.write(b"x" * (1 << 20))
    except OSError as error:
        print(error.errno)
"""


async def attack(box: GuestSandbox, program: str) -> tuple[int, bytes]:
    """Write a piece of work, run an attack, and see whether the work is still there."""
    await box.write_file("work", b"of hours")
    result = await box.exec(["python3", "-I", "-c", program])
    assert await box.read_file("work") == b"of hours"
    return result.exit_code, result.stdout


@pytest.mark.attack("lose the work of the sandbox", "many small programs use up its memory")
async def test_the_guest_survives_many_small_programs() -> None:
    async with sandbox(LITTLE) as (_, box):
        await attack(box, MANY_SMALL)
        assert int((await box.info()).resources["oom_kills"]) > 0


@pytest.mark.control("many small programs use up its memory")
async def test_where_guest_and_programs_are_alike_the_guest_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "_OOM_SCORE_ADJ", 900)
    async with sandbox(LITTLE) as (_, box):
        with pytest.raises(AgentHostError, match="memory was used up, 250 MiB"):
            await attack(box, MANY_SMALL)
            await box.exec(["true"])


@pytest.mark.attack("take the memory of the host", "a sandbox without a cap")
async def test_a_sandbox_without_a_cap_takes_no_more_than_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "_DEFAULT_MEMORY_MIB", 200)
    async with sandbox() as (_, box):
        assert await attack(box, ONE_LARGE) == (137, b"")


@pytest.mark.control("a sandbox without a cap")
async def test_without_a_default_it_takes_what_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    without_defaults(monkeypatch)
    async with sandbox() as (_, box):
        assert await attack(box, ONE_LARGE) == (0, b"taken\n")


USUAL_PROGRAM = "block = b'x' * (40 << 20)"


@pytest.mark.attack("let nothing else run in the sandbox", "files in memory use it up")
async def test_files_in_memory_leave_room_for_programs() -> None:
    async with sandbox(SandboxSpec(limits=ResourceLimits(memory_mib=256))) as (_, box):
        assert await attack(box, FILES_IN_MEMORY) == (0, b"28\n28\n")
        assert await attack(box, USUAL_PROGRAM) == (0, b"")


@pytest.mark.control("files in memory use it up")
async def test_where_their_size_does_not_depend_on_the_cap_nothing_else_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def whole(size: int, _memory: int, _divisor: int) -> int:
        return size

    monkeypatch.setattr(isolated, "_part", whole)
    async with sandbox(SandboxSpec(limits=ResourceLimits(memory_mib=256))) as (_, box):
        assert (await attack(box, FILES_IN_MEMORY))[0] == 137
        assert (await attack(box, USUAL_PROGRAM))[0] == 137


# ---- the same on an engine of containers


@pytest.mark.attack("lose the work of the sandbox", "many small programs use up its memory")
@pytest.mark.usefixtures("baked")
async def test_the_guest_in_a_container_survives_many_small_programs(docker_engine: DockerEngine) -> None:
    async with open_sandbox(lambda: DockerProvider(host=docker_engine.host), LITTLE) as (_, box):
        await attack(box, MANY_SMALL)


@pytest.mark.control("many small programs use up its memory")
@pytest.mark.usefixtures("baked")
async def test_where_guest_and_programs_are_alike_the_container_ends_and_says_why(
    docker_engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "_OOM_SCORE_ADJ", 900)
    async with open_sandbox(lambda: DockerProvider(host=docker_engine.host), LITTLE) as (_, box):
        with pytest.raises(AgentHostError):
            await attack(box, MANY_SMALL)
            await box.exec(["true"])
        assert (await box.info()).state == "ended"
        with pytest.raises(SandboxGoneError, match="memory was used up, 250 MiB"):
            await box.backend.dial()


@pytest.mark.attack("take the memory of the host", "a sandbox without a cap")
@pytest.mark.usefixtures("baked")
async def test_a_container_without_a_cap_takes_no_more_than_the_default(
    docker_engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "_MEMORY_MIB", 200)
    async with open_sandbox(lambda: DockerProvider(host=docker_engine.host)) as (_, box):
        assert await attack(box, ONE_LARGE) == (137, b"")


# Connections whose bytes are never read.
SOCKETS = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
kept, sent, block = [], 0, b"x" * (1 << 20)
for _ in range(150):
    out = socket.create_connection(listener.getsockname())
    kept.append((out, listener.accept()[0]))
    out.setblocking(False)
    try:
        while True:
            sent += out.send(block)
    except BlockingIOError:
        continue
print(sent >> 20)
"""
NEEDS_LEGACY = pytest.mark.skipif(
    not Path("/sys/fs/cgroup/memory", limits.SOCKET_MEMORY).exists(),
    reason="not in CI: here the kernel counts what waits in sockets by itself",
)


@NEEDS_LEGACY
@pytest.mark.full
@pytest.mark.attack("take the memory of the host", "what waits in sockets")
async def test_what_waits_in_sockets_is_bounded_by_the_cap() -> None:
    async with sandbox(LITTLE) as (_, box):
        code, said = await attack(box, SOCKETS)
    assert (code, int(said) < 60) == (0, True)


@NEEDS_LEGACY
@pytest.mark.full
@pytest.mark.control("what waits in sockets")
async def test_without_a_bound_of_its_own_more_waits_in_sockets_than_the_cap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "SOCKET_MEMORY", "memory.no.such.file")
    async with sandbox(LITTLE) as (_, box):
        code, said = await attack(box, SOCKETS)
    assert (code, int(said) > 300) == (0, True)
