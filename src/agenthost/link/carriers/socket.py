"""A unix socket as a carrier."""

from __future__ import annotations

import os
import socket
import weakref
from pathlib import Path

import anyio
import anyio.lowlevel

from agenthost.forked import after_fork

_CHUNK = 512 * 1024  # bytes taken from the socket at once
_BUFFER = 1024 * 1024  # bytes the kernel is asked to keep for each direction; it gives what it allows


_open: weakref.WeakSet[SocketCarrier] = weakref.WeakSet()


def _close_copies() -> None:
    """Close a forked child's copies, which would keep a sandbox connected when its host has died."""
    for carrier in tuple(_open):
        carrier.raw.close()


after_fork(_close_copies)


class SocketCarrier:
    """A connected unix socket: byte-clean, and its end is told at once.

    Works on the socket itself. On asyncio, a receive of anyio's own stream that is cancelled at the moment
    when data arrives leaves an InvalidStateError in the event loop's log.
    """

    binary = True

    def __init__(self, raw: socket.socket) -> None:
        self.raw = raw
        _open.add(self)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            raw.setsockopt(socket.SOL_SOCKET, option, _BUFFER)

    async def send(self, data: bytes) -> None:
        """Send all bytes. OSError when the other end has closed."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        view = memoryview(data)
        while view:
            try:
                view = view[self.raw.send(view) :]
            except BlockingIOError:
                await anyio.wait_writable(self.raw)

    async def receive(self) -> bytes:
        """Return the next bytes, ``b""`` at the end."""
        await anyio.lowlevel.checkpoint()
        while True:
            try:
                return self.raw.recv(_CHUNK)
            except BlockingIOError:
                await anyio.wait_readable(self.raw)
            except ConnectionError:
                return b""

    async def aclose(self) -> None:
        """Close; who waits in ``send`` or ``receive`` is woken."""
        if self.raw.fileno() >= 0:
            anyio.notify_closing(self.raw)
            self.raw.close()
        await anyio.lowlevel.checkpoint()


async def connect_unix(path: str) -> SocketCarrier:
    """Connect to a socket, also at a path longer than the 107 bytes that the kernel takes. Raises OSError."""
    await anyio.lowlevel.checkpoint()
    folder = os.open(Path(path).parent, os.O_PATH | os.O_CLOEXEC)
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    raw.setblocking(False)
    try:
        # Connecting to a unix socket never waits: it succeeds, or its backlog is full (EAGAIN).
        raw.connect(f"/proc/self/fd/{folder}/{Path(path).name}")
        return SocketCarrier(raw)
    except BaseException:
        raw.close()
        raise
    finally:
        os.close(folder)
