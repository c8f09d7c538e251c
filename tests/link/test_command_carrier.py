"""A program of this host as a carrier."""

from __future__ import annotations

import os
import signal

import anyio
import pytest

from agenthost.link.carriers.command import open_command_carrier
from agenthost.sandbox import Carrier


async def test_bytes_pass_both_ways_and_the_end_is_told() -> None:
    sent = bytes(range(256)) * 4096
    carrier = await open_command_carrier(["head", "-c", str(len(sent))])
    assert isinstance(carrier, Carrier)
    assert carrier.binary
    got = bytearray()

    async def receive() -> None:
        while data := await carrier.receive():
            got.extend(data)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        await carrier.send(sent)
    assert got == sent
    await carrier.aclose()
    await carrier.aclose()
    assert await carrier.receive() == b""


async def test_sending_to_a_program_that_has_ended_is_an_error() -> None:
    carrier = await open_command_carrier(["true"])
    assert await carrier.receive() == b""
    with pytest.raises((OSError, anyio.BrokenResourceError, anyio.ClosedResourceError)):
        while True:
            await carrier.send(b"x" * 65536)
    await carrier.aclose()


async def test_closing_ends_a_program_that_does_not_listen_to_sigterm() -> None:
    carrier = await open_command_carrier(["sh", "-c", 'trap "" TERM; echo $$; while :; do sleep 0.05; done'])
    pid = int(await carrier.receive())
    await carrier.aclose()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


async def test_a_cancelled_close_closes() -> None:
    carrier = await open_command_carrier(["sh", "-c", "echo $$; exec cat"])
    pid = int(await carrier.receive())
    with anyio.CancelScope() as scope:
        scope.cancel()
        await carrier.aclose()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


async def test_a_program_that_is_not_there_is_the_kernels_error() -> None:
    with pytest.raises(FileNotFoundError):
        await open_command_carrier(["no-such-program"])


async def test_it_is_a_running_program_with_an_exit_code_and_the_end_of_its_errors() -> None:
    script = 'read -r first; head -c 100000 /dev/zero | tr "\\0" x >&2; echo "$first" >&2; exit 3'
    carrier = await open_command_carrier(["sh", "-c", script], before=b"before the link\n")
    assert await carrier.receive() == b""
    assert await carrier.wait() == 3
    assert carrier.stderr.endswith(b"xxbefore the link\n")
    assert len(carrier.stderr) >= 2000
    await carrier.aclose()
    assert carrier.stderr == b""
