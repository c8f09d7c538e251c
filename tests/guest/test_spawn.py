"""Programs with streams: ``Sandbox.spawn`` through a real guest in a real sandbox."""

from __future__ import annotations

import hashlib
import signal

import anyio
import anyio.lowlevel
import pytest
from support.inside import guest_memory, living
from support.waiting import until

from agenthost.link.client import GuestSandbox
from agenthost.sandbox import Process

SECONDS = 30.0  # until a test is taken to hang
MIB = 1024 * 1024


async def all_of(process: Process) -> bytes:
    """Read stdout to its end."""
    parts: list[bytes] = []
    while data := await process.receive_stdout():
        parts.append(data)
    return b"".join(parts)


async def test_a_line_reaches_the_caller_as_it_is_printed(box: GuestSandbox) -> None:
    program = ["sh", "-c", "for n in 1 2 3; do echo line $n; read go; done"]
    with anyio.fail_after(SECONDS):
        async with box.spawn(program) as process:
            for number in (1, 2, 3):
                assert await process.receive_stdout() == b"line %d\n" % number
                await process.send_stdin(b"go\n")
            assert await process.receive_stdout() == b""
            assert await process.wait() == 0


async def test_stderr_comes_on_its_own(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with box.spawn(["sh", "-c", "echo wrong >&2; exit 7"]) as process:
            assert await process.receive_stderr() == b"wrong\n"
            assert await process.receive_stderr() == b""
            assert await process.receive_stdout() == b""
            assert await process.wait() == 7


async def test_both_directions_flow_at_once(box: GuestSandbox) -> None:
    sent = hashlib.sha256()
    got = hashlib.sha256()
    piece = bytes(range(256)) * 1024

    async def feed(process: Process) -> None:
        for number in range(40):
            data = piece[number:] + piece[:number]
            sent.update(data)
            await process.send_stdin(data)
        await process.close_stdin()

    with anyio.fail_after(SECONDS):
        async with box.spawn(["cat"]) as process, anyio.create_task_group() as tasks:
            tasks.start_soon(feed, process)
            while data := await process.receive_stdout():
                got.update(data)
            assert await process.wait() == 0
    assert got.digest() == sent.digest()


async def test_a_character_may_be_split_over_pieces(box: GuestSandbox) -> None:
    duck = "🦆".encode()
    with anyio.fail_after(SECONDS):
        async with box.spawn(["cat"]) as process:
            for byte in duck:
                await process.send_stdin(bytes([byte]))
                assert await process.receive_stdout() == bytes([byte])


async def test_writing_to_a_program_that_closed_its_stdin_is_a_broken_pipe(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with box.spawn(["sh", "-c", "exec <&-; echo closed; sleep 72.1"]) as process:
            assert await process.receive_stdout() == b"closed\n"
            with pytest.raises(BrokenPipeError):
                while True:
                    await process.send_stdin(b"x" * 1000)


async def test_writing_to_a_program_that_has_ended_is_a_broken_pipe(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with box.spawn(["true"]) as process:
            assert await process.wait() == 0
            with pytest.raises(BrokenPipeError):
                while True:
                    await process.send_stdin(b"x" * 1000)
                    await anyio.lowlevel.checkpoint()


async def test_closing_stdin_twice_is_once(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with box.spawn(["cat"]) as process:
            await process.send_stdin(b"last")
            await process.close_stdin()
            await process.close_stdin()
            assert await all_of(process) == b"last"
            with pytest.raises(ValueError, match="ended"):
                await process.send_stdin(b"more")


async def test_a_signal_reaches_the_whole_group(box: GuestSandbox) -> None:
    program = """
trap 'echo parent' TERM
(trap 'echo child; exit' TERM; echo up; while :; do sleep 72.2 & wait; done) &
wait; wait
"""
    with anyio.fail_after(SECONDS):
        async with box.spawn(["bash", "-c", program]) as process:
            assert await process.receive_stdout() == b"up\n"
            await process.signal(signal.SIGTERM)
            assert sorted((await all_of(process)).split()) == [b"child", b"parent"]
            await process.wait()
            await process.signal(signal.SIGTERM)  # nobody is there: no error


async def test_an_unknown_signal_is_the_kernels_error(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with box.spawn(["cat"]) as process:
            with pytest.raises(OSError, match="Invalid"):
                await process.signal(999)


async def test_wait_tells_the_same_again_also_after_it_was_cancelled(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with box.spawn(["sh", "-c", "read x; exit 9"]) as process:
            for _ in range(3):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await process.wait()
                with anyio.move_on_after(0.01):
                    await process.wait()
            await process.close_stdin()
            assert await process.wait() == 9
            assert await process.wait() == 9
    assert await process.wait() == 9


async def test_several_may_wait_at_once(box: GuestSandbox) -> None:
    codes: list[int] = []

    async def one(process: Process) -> None:
        codes.append(await process.wait())

    with anyio.fail_after(SECONDS):
        async with box.spawn(["sh", "-c", "read x; exit 3"]) as process, anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(one, process)
            await process.close_stdin()
    assert codes == [3, 3, 3]


async def test_leaving_the_block_kills_and_tells_whoever_waits(box: GuestSandbox) -> None:
    codes: list[int] = []
    ends: list[bytes | type[BaseException]] = []

    async def wait(process: Process) -> None:
        codes.append(await process.wait())

    async def read(process: Process) -> None:
        try:
            ends.append(await process.receive_stdout())
        except anyio.ClosedResourceError as exc:
            ends.append(type(exc))

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks, box.spawn(["sh", "-c", "sleep 72.3; true"]) as process:
            tasks.start_soon(wait, process)
            tasks.start_soon(read, process)
            await until(lambda: living(box, "72.3"), lambda found: len(found) == 1)
        assert codes == [128 + signal.SIGKILL]
        assert ends == [anyio.ClosedResourceError]
        assert await living(box, "72.3") == []


async def test_an_error_in_the_block_kills_and_is_what_the_caller_sees(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        with pytest.raises(KeyError, match="mine"):
            async with box.spawn(["sleep", "72.4"]):
                raise KeyError("mine")
        assert await living(box, "72.4") == []


async def test_a_program_that_cannot_be_started_is_an_error_of_entering(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS), pytest.raises(FileNotFoundError):
        async with box.spawn(["no-such-program"]):
            raise AssertionError("the block was entered")


async def test_a_reader_that_stops_stops_the_program_and_loses_nothing(box: GuestSandbox) -> None:
    program = """
import os, sys
for number in range(48):
    os.write(1, bytes([number]) * 1048576)
    os.write(2, b"%d\\n" % number)
"""
    before = await guest_memory(box)
    with anyio.fail_after(SECONDS):
        async with box.spawn(["python3", "-c", program]) as process:
            # It tells its progress on stderr, and stops telling when nobody reads its stdout.
            progress = b""
            with anyio.move_on_after(1.0):
                while True:
                    progress += await process.receive_stderr()
            written = int(progress.split()[-1]) + 1
            assert 8 <= written <= 24
            assert await guest_memory(box) - before < 12 * MIB
            assert await all_of(process) == b"".join(bytes([number]) * MIB for number in range(48))
            assert await process.wait() == 0


async def test_what_a_program_printed_last_is_kept_for_a_slow_reader(box: GuestSandbox) -> None:
    """The program has ended, and the last of its output lies in a pipe that the guest does not read yet."""
    program = "import os; os.write(2, b'.'); [os.write(1, b'x' * 100_000) for _ in range(174)]"
    with anyio.fail_after(SECONDS):
        async with box.spawn(["python3", "-c", program]) as process:
            # 16 MiB are in the guest, the rest is in the pipe.
            assert await process.receive_stderr() == b"."
            assert await process.receive_stderr() == b""
            with anyio.move_on_after(1.5):  # longer than the guest waits for a child that keeps the pipe open
                await process.wait()
            assert len(await all_of(process)) == 17_400_000
            assert await process.wait() == 0


async def test_one_slow_reader_does_not_hold_up_the_others(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with box.spawn(["cat", "/dev/zero"]) as flood:
            assert await flood.receive_stdout()
            for _ in range(20):
                assert (await box.exec(["echo", "through"])).stdout == b"through\n"


async def test_a_program_that_runs_on_costs_the_guest_nothing_for_what_else_is_done(
    box: GuestSandbox,
) -> None:
    """Its wait is a call without an answer, behind which the guest keeps the answers of all others."""

    async def work(times: int) -> int:
        for _ in range(times):
            assert len(await box.read_file("kept")) == 30_000
            await box.exec(["true"])
        return await guest_memory(box)

    await box.write_file("kept", bytes(30_000))
    with anyio.fail_after(SECONDS):
        async with box.spawn(["cat"]) as process, anyio.create_task_group() as tasks:
            tasks.start_soon(process.wait)
            before = await work(100)
            assert await work(400) - before < 4 * MIB
            await process.close_stdin()
    await box.exec(["rm", "kept"])
