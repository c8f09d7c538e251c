"""Checks of ``spawn``: section 2 of the contract."""

from __future__ import annotations

import signal

import anyio
import pytest

from agenthost.sandbox import Process, Sandbox
from agenthost.testing.conformance.clauses import clause
from agenthost.testing.conformance.comparing import check_same
from agenthost.testing.conformance.kit import Conformance
from agenthost.testing.conformance.programs import FAMILY, child_is_gone, wait_until_told

_FLOOD = 32 * 1024 * 1024  # bytes, more than is kept on the way anywhere


async def read_line(process: Process) -> bytes:
    """Return stdout up to a newline. What is behind it must not have come yet."""
    data = b""
    while not data.endswith(b"\n"):
        piece = await process.receive_stdout()
        assert piece, f"stdout ended after {data!r}"
        data += piece
    return data


async def read_all(process: Process) -> bytes:
    """Return stdout to its end."""
    parts: list[bytes] = []
    while piece := await process.receive_stdout():
        parts.append(piece)
    return b"".join(parts)


class StreamChecks(Conformance):
    """A running program's streams, and its end."""

    @clause("2.1", needs="system")
    async def test_a_line_reaches_the_caller_as_it_is_printed(self, sandbox: Sandbox) -> None:
        """Before the program goes on."""
        async with sandbox.spawn(["sh", "-c", "echo one; read word; echo $word; read more"]) as process:
            assert await read_line(process) == b"one\n"
            await process.send_stdin(b"two\n")
            assert await read_line(process) == b"two\n"

    @clause("2.2")
    async def test_stdin_takes_any_bytes_and_can_be_ended(self, sandbox: Sandbox) -> None:
        """Ending it twice is once."""
        data = bytes(range(256)) * 300
        async with sandbox.spawn(["cat"]) as process:
            await process.send_stdin(data[:1])
            await process.send_stdin(data[1:])
            await process.close_stdin()
            await process.close_stdin()
            check_same(await read_all(process), data)
            assert await process.wait() == 0

    @clause("2.3", needs="system")
    async def test_writing_to_who_has_closed_stdin_is_a_broken_pipe(self, sandbox: Sandbox) -> None:
        """After at most 64 MiB: buffers may lie between."""
        async with sandbox.spawn(["sh", "-c", "exec <&-; echo closed; sleep 100000"]) as process:
            assert await read_line(process) == b"closed\n"
            with pytest.raises(BrokenPipeError):
                for _ in range(1024):
                    await process.send_stdin(bytes(65536))

    @clause("2.4", needs="system")
    async def test_a_signal_reaches_the_whole_group(self, sandbox: Sandbox) -> None:
        """And ``wait`` tells which it was, again and again."""
        async with sandbox.spawn(["sh", "-c", FAMILY]) as process:
            await wait_until_told(sandbox)
            await process.signal(signal.SIGTERM)
            assert await process.wait() == 128 + signal.SIGTERM
            await child_is_gone(sandbox)
            await process.signal(signal.SIGTERM)
            assert await process.wait() == 128 + signal.SIGTERM

    @clause("2.5", needs="system")
    async def test_leaving_the_block_kills_all_below(self, sandbox: Sandbox) -> None:
        """Grandchildren too."""
        async with sandbox.spawn(["sh", "-c", FAMILY]):
            await wait_until_told(sandbox)
        await child_is_gone(sandbox)

    @clause("2.6", needs="system")
    async def test_an_error_in_the_block_is_what_the_caller_sees(self, sandbox: Sandbox) -> None:
        """Itself, not in a group; and all below is killed."""
        error = ValueError("mine")
        with pytest.raises(ValueError, match="mine") as caught:
            async with sandbox.spawn(["sh", "-c", FAMILY]):
                await wait_until_told(sandbox)
                raise error
        assert caught.value is error
        await child_is_gone(sandbox)

    @clause("2.7", needs="system")
    async def test_who_does_not_read_loses_nothing_and_holds_up_nobody(self, sandbox: Sandbox) -> None:
        """32 MiB wait until they are wanted."""
        argv = ["sh", "-c", f"head -c {_FLOOD} /dev/zero; echo end >&2"]
        async with sandbox.spawn(argv) as process:
            for _ in range(5):
                assert (await sandbox.exec(["echo", "quick"])).stdout == b"quick\n"
            assert len(await read_all(process)) == _FLOOD
            assert await process.receive_stderr() == b"end\n"
            assert await process.wait() == 0

    @clause("2.8")
    async def test_what_was_printed_can_be_read_after_the_end(self, sandbox: Sandbox) -> None:
        """Nothing goes with the program."""
        async with sandbox.spawn(["echo", "last words"]) as process:
            assert await process.wait() == 0
            assert await read_all(process) == b"last words\n"

    @clause("2.9")
    async def test_what_cannot_be_started_is_an_error_of_entering(self, sandbox: Sandbox) -> None:
        """The block is never entered."""
        with pytest.raises(FileNotFoundError):
            async with sandbox.spawn(["agenthost-no-such-program"]):
                raise AssertionError("there is no such program")

    @clause("2.10")
    async def test_a_cancelled_wait_can_be_repeated(self, sandbox: Sandbox) -> None:
        """The answer is not lost with it."""
        async with sandbox.spawn(["cat"]) as process:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await process.wait()
            await process.close_stdin()
            assert await process.wait() == 0
