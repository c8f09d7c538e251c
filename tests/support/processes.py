"""Which processes on this machine belong to something, read from /proc."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Processes of the run itself, which no test has left.
OWN: set[int] = {os.getpid()}


@dataclass(frozen=True, slots=True)
class FoundProcess:
    """A process that runs."""

    pid: int
    cmdline: str
    why: str

    def __str__(self) -> str:
        """Return one line for a report."""
        return f"process {self.pid} ({self.cmdline[:160] or 'no command line'}): {self.why}"


def processes_of(marker: str, directories: tuple[str, ...]) -> Iterator[FoundProcess]:
    """Yield processes, other than OWN, that a marker or a directory gives away.

    A process belongs when its environment holds ``marker``, or when its command line, working directory
    or root names one of the directories, or when it has a file open there, or when one of them is mounted
    for it and not for this process: what runs in a sandbox has an empty environment, and so has a keeper.
    """
    own_mounts = _read(os.getpid(), "mountinfo")
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in OWN:
            continue
        pid = int(name)
        why = _why(pid, marker.encode(), [os.fsencode(path) for path in directories], own_mounts)
        if why and is_alive(pid):
            cmdline = _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
            yield FoundProcess(pid, cmdline, why)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs (a zombie does not)."""
    return _state(pid) not in ("Z", "X", "")


def wait_until_gone(pids: list[int], seconds: float) -> None:
    """Wait for processes that are about to end, at most ``seconds`` in all. Returns early when all have."""
    poll = select.poll()
    waiting: set[int] = set()
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            continue
        waiting.add(fd)
        poll.register(fd, select.POLLIN)
    try:
        while waiting and (ready := poll.poll(seconds * 1000)):
            for fd, _ in ready:
                poll.unregister(fd)
                os.close(fd)
                waiting.discard(fd)
    finally:
        for fd in waiting:
            os.close(fd)


def _why(pid: int, marker: bytes, directories: list[bytes], own_mounts: bytes) -> str:
    if marker in _read(pid, "environ").split(b"\0"):
        return "it was started by this run"
    cmdline, mounts = _read(pid, "cmdline"), _read(pid, "mountinfo")
    links = [_link(pid, "cwd"), _link(pid, "root"), _link(pid, "exe")]
    for directory in directories:
        if directory in cmdline:
            return f"its command line names {os.fsdecode(directory)}"
        if any(link == directory or link.startswith(directory + b"/") for link in links):
            return f"it works in {os.fsdecode(directory)}"
        if directory in mounts and directory not in own_mounts:
            return f"{os.fsdecode(directory)} is mounted in it"
        if any(link.startswith(directory + b"/") for link in _open_files(pid)):
            return f"it has a file open in {os.fsdecode(directory)}"
    return ""


def _open_files(pid: int) -> list[bytes]:
    try:
        return [_link(pid, f"fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []  # it has ended, or it is not for us to see


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""  # it has ended, or it is not for us to see


def _link(pid: int, name: str) -> bytes:
    try:
        return os.readlink(f"/proc/{pid}/{name}".encode())
    except OSError:
        return b""


def _state(pid: int) -> str:
    _, _, rest = _read(pid, "stat").rpartition(b") ")
    return rest[:1].decode()
