"""A unix socket as a carrier."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import anyio
import anyio.abc

_CHUNK = 512 * 1024  # bytes taken from the socket at once
_BUFFER = 1024 * 1024  # bytes the kernel is asked to keep for each direction; it gives what it allows
_LONGEST = 107  # bytes of a unix socket's path that the kernel takes


class SocketCarrier:
    """A connected unix socket: byte-clean, and its end is told at once."""

    binary = True

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream
        raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            raw.setsockopt(socket.SOL_SOCKET, option, _BUFFER)

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
