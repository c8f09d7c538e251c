"""Process trees, read from /proc."""

from __future__ import annotations

import os
import signal


def descendants(root: int) -> list[int]:
    """Return the pids below ``root``, children before grandchildren; zombies are left out."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                # The name is in brackets and may hold brackets itself: look behind the last one.
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except (OSError, ValueError):
            continue  # it ended while we looked
        if state not in (b"Z", b"X"):
            children.setdefault(int(parent), []).append(int(entry))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def kill_tree(root: int, *, group: bool = True) -> None:
    """SIGKILL ``root``, its process group and all below it, also what left the group.

    Orphans of earlier children have another parent by now and are not found; their group is.
    """
    victims: list[int] = []
    # Stopped processes cannot fork: once a look finds nobody new, the list is complete.
    while fresh := [pid for pid in descendants(root) if pid not in victims]:
        for pid in fresh:
            _kill(pid, signal.SIGSTOP)
        victims += fresh
    if group:
        _kill(-root, signal.SIGKILL)
    for pid in victims:
        _kill(pid, signal.SIGKILL)


def _kill(pid: int, signum: signal.Signals) -> None:
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return  # gone, or not ours to kill
