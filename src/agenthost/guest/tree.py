"""Process trees, read from /proc."""

from __future__ import annotations

import os
import signal

from agenthost.guest.agent_user import as_agent


def members(root: int, mark: bytes) -> set[int]:
    """Return ``root``, its group and session, who has ``mark`` in its environment, and all below them.

    An orphan has another parent by now; it is known by the mark. Zombies are left out.
    """
    children: dict[int, list[int]] = {}
    waiting: list[int] = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        pid = int(entry)
        try:
            # The name is in brackets and may hold brackets itself: look behind the last one.
            state, parent, group, session = _read(pid, "stat").rpartition(b")")[2].split()[:4]
        except (OSError, ValueError):
            continue  # it ended while we looked
        if state not in (b"Z", b"X"):
            children.setdefault(int(parent), []).append(pid)
            if root in (pid, int(group), int(session)) or _has(pid, mark):
                waiting.append(pid)
    found: set[int] = set()
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def kill_tree(root: int, mark: bytes) -> None:
    """SIGKILL all that belong to ``root``, see ``members``; -1 is nobody but those with the mark."""
    victims: set[int] = set()
    with as_agent():  # its environment is closed to other users, even to root without capabilities
        # Stopped processes cannot fork: once a look finds nobody new, all are found.
        while fresh := members(root, mark) - victims:
            for pid in fresh:
                _kill(pid, signal.SIGSTOP)
            victims |= fresh
        for pid in victims:
            _kill(pid, signal.SIGKILL)


def kill_group(group: int) -> None:
    """SIGKILL a process group; nothing happens when it is empty."""
    with as_agent():
        _kill(-group, signal.SIGKILL)


def _has(pid: int, mark: bytes) -> bool:
    try:
        return mark in _read(pid, "environ")
    except OSError:
        return False  # it has ended, or it is not ours


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def _kill(pid: int, signum: signal.Signals) -> None:
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return  # gone, or not ours to kill
