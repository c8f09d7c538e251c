"""The ``dial`` program: joins its stdin and stdout to the guest's socket, for one carrier."""

from __future__ import annotations

import os
import selectors
import socket
import time

_SILENCE = 23.0  # seconds without a byte from the guest, which pings every 15: it is gone
_CHUNK = 256 * 1024


def dial(socket_path: str) -> int:
    """Move bytes both ways until either side ends. Exit code 1 when the guest cannot be reached."""
    guest = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        guest.connect(socket_path)
    except OSError as exc:
        os.write(2, f"the guest does not answer at {socket_path}: {exc.strerror}\n".encode())
        return 1
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(guest, selectors.EVENT_READ)
    heard = time.monotonic()
    while (left := heard + _SILENCE - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            try:
                if key.fileobj is guest:
                    heard = time.monotonic()
                    data = guest.recv(_CHUNK)
                    _write_all(1, data)
                else:
                    data = os.read(0, _CHUNK)
                    guest.sendall(data)
            except OSError:
                return 0  # an end of the pipe is gone: so is this carrier
            if not data:
                return 0
    return 0


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
