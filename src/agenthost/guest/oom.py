"""Which process of a sandbox the kernel kills when memory runs out: a program of the agent, not the guest.

The kernel adds a share of all memory to what a process takes, by its ``oom_score_adj``. Children begin with
their parent's. A program may set its own, down to the value that a privileged host gave the sandbox.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

# Of 1000. A sandbox of ``local`` and of ``docker`` begins with 500, the host's programs with 0.
_PROGRAMS = 800
_own: list[tuple[int, int]] = []  # this process's open file, and its value


def remember_own_score() -> None:
    """Open what ``as_program`` writes to. Call it before the process makes itself undumpable.

    Nothing happens where that cannot be: then the kernel's choice is as it was.
    """
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        _own[:] = [(fd, int(os.read(fd, 16)))]
    except (OSError, ValueError):
        return  # not Linux, or /proc is not there


def score_files() -> list[int]:
    """Return the descriptors that ``as_program`` needs."""
    return [fd for fd, _ in _own]


@contextmanager
def as_program() -> Generator[None]:
    """Have what is forked in the block be killed before the guest is. The block must not await."""
    if not _own or _own[0][1] >= _PROGRAMS:
        yield
        return
    fd, value = _own[0]
    os.pwrite(fd, b"%d" % _PROGRAMS, 0)
    try:
        yield
    finally:
        os.pwrite(fd, b"%d" % value, 0)
