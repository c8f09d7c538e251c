"""A program of this host as a carrier: ``ssh host guest dial``, or whatever else reaches inside."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress

import anyio
import anyio.abc

_CHUNK = 256 * 1024  # bytes taken from the program at once
_CLOSING = 2.0  # seconds that a program may take to end when it is asked to


class CommandCarrier:
    """The stdin and stdout of a program of this host. Use ``open_command_carrier``."""

    def __init__(self, process: anyio.abc.Process, *, binary: bool) -> None:
        self.binary = binary
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    async def send(self, data: bytes) -> None:
        """Send all bytes. An anyio resource error when the program has ended."""
        await self._stdin.send(data)

    async def receive(self) -> bytes:
        """Return the next bytes, ``b""`` at the end."""
        try:
            return await self._stdout.receive(_CHUNK)
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            return b""

    async def aclose(self) -> None:
        """End the program: SIGTERM, then SIGKILL. What it started elsewhere sees its stdin end."""
        with anyio.CancelScope(shield=True):
            for end in (self._process.terminate, self._process.kill):
                if self._process.returncode is not None:
                    break
                with suppress(ProcessLookupError):
                    end()
                with anyio.move_on_after(_CLOSING):
                    await self._process.wait()
            await self._process.aclose()


async def open_command_carrier(argv: Sequence[str], *, binary: bool = True) -> CommandCarrier:
    """Start a program of this host that joins its stdin and stdout to a guest.

    Args:
        argv: The program. It must not ask a person for anything: its stdin is the link.
        binary: Whether every byte value passes.

    Raises:
        OSError: It cannot be started.
    """
    process = await anyio.open_process(argv, stderr=subprocess.DEVNULL, start_new_session=True)
    return CommandCarrier(process, binary=binary)
