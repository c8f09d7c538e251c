"""Cancelled at any await, an operation leaves nothing: no process, no file, no sandbox."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from support.cancelling import cancelled_after, cancelled_at
from support.inside import living, until
from support.processes import processes_of

from agenthost.link.client import GuestSandbox
from agenthost.providers.local.provider import LocalProvider
from agenthost.spec import SandboxSpec

SECONDS = 120.0  # until a test is taken to hang


async def at_every_await(operation: Callable[[], Awaitable[object]]) -> int:
    """Cancel an operation at each of its awaits, and in between; return how many awaits there were."""
    waits = 1
    while await cancelled_at(waits, operation):
        waits += 1
    turns, more = 1, 1
    while await cancelled_after(turns, operation):
        turns, more = turns + more, turns
    return waits - 1


async def files_in(box: GuestSandbox, folder: str) -> list[bytes]:
    """Return the names in a folder, hidden ones too."""
    return (await box.exec(["ls", "-A", folder])).stdout.split()


async def test_a_cancelled_program_is_not_there(box: GuestSandbox) -> None:
    async def run() -> None:
        assert (await box.exec(["sh", "-c", "sleep 0; exec true", "75.1"])).exit_code == 0

    with anyio.fail_after(SECONDS):
        assert await at_every_await(run) >= 2
        await until(lambda: living(box, "75.1"), lambda found: not found)


async def test_a_cancelled_program_that_would_run_on_is_killed(box: GuestSandbox) -> None:
    async def run() -> None:
        with anyio.move_on_after(0.05):
            await box.exec(["sleep", "75.2"])

    with anyio.fail_after(SECONDS):
        assert await at_every_await(run) >= 1
        assert await living(box, "75.2") == []


async def test_a_cancelled_program_with_large_arguments_and_input_is_not_there(box: GuestSandbox) -> None:
    """They travel as a stream, of which the guest has only a part: it must not start once the rest comes."""
    argument = "y" * 100_000
    argv = ["sh", "-c", "cat > /dev/null; exec sleep 75.3", *[argument] * 9]

    async def run() -> None:
        with anyio.move_on_after(0.2):
            await box.exec(argv, stdin=bytes(100_000))

    with anyio.fail_after(SECONDS):
        assert await at_every_await(run) >= 2
        assert await living(box, "75.3") == []
        assert await living(box, argument) == []


async def test_a_cancelled_spawn_is_not_there(box: GuestSandbox) -> None:
    async def run() -> None:
        async with box.spawn(["cat", "-", "/dev/null"]) as process:
            await process.send_stdin(b"x")
            assert await process.receive_stdout() == b"x"
            await process.signal(15)
            await process.wait()

    with anyio.fail_after(SECONDS):
        assert await at_every_await(run) >= 4
        assert await living(box, "-") == []


@pytest.mark.parametrize("size", [100, 2_000_000])
async def test_a_cancelled_write_leaves_the_old_file_or_the_new_one(box: GuestSandbox, size: int) -> None:
    async def write() -> None:
        await box.write_file("cancel/file", b"n" * size)

    with anyio.fail_after(SECONDS):
        await box.write_file("cancel/file", b"o" * size)
        assert await at_every_await(write) >= 1
        assert await box.read_file("cancel/file") == b"n" * size
        assert await files_in(box, "cancel") == [b"file"]
        await box.exec(["rm", "-r", "cancel"])


async def test_a_cancelled_read_leaves_no_file_open(box: GuestSandbox) -> None:
    async def read() -> None:
        assert len(await box.read_file("open")) == 3_000_000

    with anyio.fail_after(SECONDS):
        await box.write_file("open", bytes(3_000_000))
        assert await at_every_await(read) >= 2
        # The guest shows its open files to nobody, but a deleted file that is open still takes its place.
        used = "df --output=used -B1 /tmp | tail -1"
        await box.exec(["sh", "-c", "mv open /tmp/open"])
        before = int((await box.exec(["sh", "-c", used])).stdout)
        for turns in range(20):
            await cancelled_after(turns, lambda: box.read_file("/tmp/open"))
        await box.exec(["rm", "/tmp/open"])
        after = int((await box.exec(["sh", "-c", used])).stdout)
        assert before - after >= 3_000_000


async def test_a_cancelled_agent_is_not_there_and_its_name_is_free(box: GuestSandbox) -> None:
    async def run() -> None:
        async with box.agent("cancelled", argv=["cat", "-", "/dev/null"], env={}, model=True) as channel:
            await channel.send(b"x\n")
            assert await channel.receive() == b"x\n"

    with anyio.fail_after(SECONDS):
        assert await at_every_await(run) >= 4
        assert await living(box, "-") == []


async def test_a_cancelled_creation_leaves_no_sandbox(provider: LocalProvider) -> None:
    root = Path(os.environ["AGENTHOST_STATE_DIR"]) / "local"
    names: list[str] = []
    before = set(os.listdir(root))

    async def create() -> None:
        names.append(f"cancelled-{len(names)}")
        sandbox = await provider.create(SandboxSpec(name=names[-1]))
        await sandbox.terminate()

    with anyio.fail_after(SECONDS):
        assert await at_every_await(create) >= 10
        assert set(os.listdir(root)) == before
        directories = tuple(str(root / name) for name in names)
        assert [str(found) for found in processes_of("none", directories)] == []
        assert (await provider.create(SandboxSpec(name=names[0]))).name == names[0]
        await (await provider.get(names[0])).terminate()


async def test_a_cancelled_get_leaves_no_link(provider: LocalProvider, box: GuestSandbox) -> None:
    async def get() -> None:
        sandbox = await provider.get(box.id)
        sandbox.session.close()

    with anyio.fail_after(SECONDS):
        assert await at_every_await(get) >= 2
        assert (await box.exec(["true"])).exit_code == 0


async def test_a_cancelled_end_can_be_asked_for_again(provider: LocalProvider) -> None:
    with anyio.fail_after(SECONDS):
        sandbox = await provider.create(SandboxSpec())
        waits = 1
        while await cancelled_at(waits, sandbox.terminate):
            waits += 1
        assert sandbox.name not in [info.name async for info in provider.list()]
