"""What the guest asks of the kernel for itself."""

from __future__ import annotations

import ctypes

_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def harden() -> None:
    """Close this process to its neighbours, and adopt orphans below it."""
    close_to_neighbours()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def close_to_neighbours() -> None:
    """Close /proc/PID/{mem,environ,fd} of this process, and of what it forks, to other processes."""
    _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) was refused")
