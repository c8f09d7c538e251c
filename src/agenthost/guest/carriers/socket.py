"""A unix socket as a carrier."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import anyio.abc

_CHUNK = 512 * 1024  # bytes taken from the socket at once
_LONGEST = 107  # bytes of a unix socket's path that the kernel takes


class SocketCarrier:
    """A connected unix socket: byte-clean, and its end is told at once."""

    binary = True

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream

    async def send(self, data: bytes) -> None:
        """Send all bytes."""
        await self._stream.send(data)

    async def receive(self) -> bytes:
        """Return the next bytes, ``b""`` at the end."""
        try:
            return await self._stream.receive(_CHUNK)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return b""

    async def aclose(self) -> None:
        """Close."""
        await anyio.aclose_forcefully(self._stream)


async def connect_unix(path: str) -> SocketCarrier:
    """Connect to a socket, also at a path longer than the kernel takes. Raises OSError."""
    if len(os.fsencode(path)) <= _LONGEST:
        return SocketCarrier(await anyio.connect_unix(path))
    folder = os.open(Path(path).parent, os.O_PATH | os.O_CLOEXEC)
    try:
        return SocketCarrier(await anyio.connect_unix(f"/proc/self/fd/{folder}/{Path(path).name}"))
    finally:
        os.close(folder)
