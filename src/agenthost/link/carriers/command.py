"""A program of this host as a carrier: ``ssh host guest dial``, or whatever else reaches inside."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO

import anyio
import anyio.abc

_CHUNK = 256 * 1024  # bytes taken from the program at once
_KEPT = 4000  # bytes of stderr
_CLOSING = 2.0  # seconds that a program may take to end when it is asked to


class CommandCarrier:
    """The stdin and stdout of a program of this host. Use ``open_command_carrier``.

    It is a Running of ``agenthost.adapter.dial_carrier``, too: for a vendor whose client is a command.
    """

    def __init__(self, process: anyio.abc.Process, errors: BinaryIO, *, binary: bool) -> None:
        self.binary = binary
        self._process = process
        self._errors = errors
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    @property
    def stderr(self) -> bytes:
        """The last bytes that were printed on stderr. ``b""`` when the carrier is closed."""
        if self._errors.closed:
            return b""
        size = self._errors.seek(0, os.SEEK_END)
        return os.pread(self._errors.fileno(), _KEPT, max(0, size - _KEPT))

    async def wait(self) -> int:
        """Return the exit code of the program, minus N where signal N ended it."""
        return await self._process.wait()

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
            self._errors.close()


async def open_command_carrier(
    argv: Sequence[str], *, binary: bool = True, before: bytes = b""
) -> CommandCarrier:
    """Start a program of this host that joins its stdin and stdout to a guest.

    Args:
        argv: The program. It must not ask a person for anything: its stdin is the link.
        binary: Whether every byte value passes.
        before: What the program reads from its stdin before the link begins, an environment for instance.

    Raises:
        OSError: It cannot be started.
    """
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - the carrier closes it; a pipe would need a reader
    try:
        process = await anyio.open_process(argv, stderr=errors, start_new_session=True)
    except BaseException:
        errors.close()
        raise
    carrier = CommandCarrier(process, errors, binary=binary)
    try:
        if before:
            await carrier.send(before)
    except (OSError, anyio.BrokenResourceError):
        pass  # the program has ended: ``receive`` and ``wait`` tell of it
    except BaseException:
        await carrier.aclose()
        raise
    return carrier
