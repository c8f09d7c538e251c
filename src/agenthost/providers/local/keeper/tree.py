"""Find and kill every process below this one."""

from __future__ import annotations

import os
import time

_SIGKILL, _SIGTERM, _SIGSTOP = 9, 15, 19
_STEP = 0.005


def handles_term(pid: int) -> bool:
    """Return whether a process has a handler for SIGTERM. True where that cannot be read."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (_SIGTERM - 1) & 1)
    except OSError:
        pass  # it has ended, or /proc hides it
    return True


def descendants_of(pid: int) -> list[int]:
    """Return all processes below ``pid``, parents before their children."""
    below: dict[int, list[int]] = {}
    for child, parent in _parents().items():
        below.setdefault(parent, []).append(child)
    found: list[int] = []
    pending = [pid]
    while pending:
        children = below.get(pending.pop(), [])
        found += children
        pending += children
    return found


def kill_descendants(seconds: float) -> bool:
    """Kill and reap all that is below this process. It must be their subreaper.

    Returns False when some are left after that many seconds (in uninterruptible sleep, for instance).
    """
    deadline = time.monotonic() + seconds
    while True:
        found = descendants_of(os.getpid())
        # First hold them all: a program that forks quickly would otherwise outrun us.
        for number in (_SIGSTOP, _SIGKILL):
            for pid in found:
                _signal(pid, number)
        _reap()
        if not found:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_STEP)


def _reap() -> None:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _parents() -> dict[int, int]:
    """Return each process's parent."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                line = file.read()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # The name of a program may hold spaces and parentheses; what follows the last one is ours.
        fields = line[line.rindex(b")") + 1 :].split()
        parents[int(name)] = int(fields[1])
    return parents
