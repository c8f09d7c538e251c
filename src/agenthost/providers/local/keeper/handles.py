"""Open handles of processes: a number may be a stranger's tomorrow, a handle stays whose it was.

Redistributable Pythons built against an old C library (those that uv installed until mid-2026) lack the
functions, on kernels that have the calls. Their numbers are the same on every architecture.
"""

from __future__ import annotations

import os
import signal

_PIDFD_SEND_SIGNAL, _PIDFD_OPEN = 424, 434


def open_handle(pid: int) -> int:
    """Return an open file that becomes readable when the process ends. Raises ProcessLookupError."""
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    return call(_PIDFD_OPEN, pid, 0)


def send(handle: int, number: int) -> None:
    """Send a signal. Nothing happens when the process has ended."""
    try:
        if hasattr(signal, "pidfd_send_signal"):
            signal.pidfd_send_signal(handle, number)
        else:
            call(_PIDFD_SEND_SIGNAL, handle, number, 0, 0)
    except ProcessLookupError:
        return


def call(number: int, *arguments: int) -> int:
    """Make a system call by its number. Raises the OSError that fits."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}: {os.strerror(ctypes.get_errno())}")
    return int(result)
