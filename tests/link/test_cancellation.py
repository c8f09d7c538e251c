"""Cancelled at any await, an operation leaves nothing: no process, no file, no agent."""

from __future__ import annotations

import anyio
import pytest
from support.cancelling import at_every_await, cancelled_after
from support.inside import living
from support.waiting import until

from agenthost.link.client import GuestSandbox

SECONDS = 120.0  # until a test is taken to hang


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
