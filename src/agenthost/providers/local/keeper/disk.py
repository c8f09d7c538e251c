"""How much a sandbox has on disk, looked at every few seconds: what grows past its bound is ended.

Counting all files costs time, so it is done when the sandbox may have grown past the bound by what the file
system has lost of its free room since the last count. Others may have made room meanwhile: for a bound that
was asked for, it is also done every few seconds. A default only guards the room that is free. A count goes on
for a few milliseconds at a time: its keeper has other things to do.

Files that have no name any more are seen where the host is root and the sandbox has a user id of its own.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator

_SLICE = 0.01  # seconds of counting at a time
_PAUSE = 20  # times as long as a count has taken, before the next one
_PATH_BYTES = 2048  # of a path that is opened at once; the kernel takes 4095
_FOLDERS = ("work", "home", "spool")


class DiskWatch:
    """The bounds of one sandbox and what is known of its files.

    Args:
        directory: The sandbox's own.
        room: Bytes that its files may take; None is no bound.
        inodes: Files and directories that there may be; None is no bound.
        every: Seconds after which a count is made in any case; None is never.
        uid: Its user, where no other process has the same.
    """

    def __init__(
        self, directory: str, room: int | None, inodes: int | None, *, every: float | None, uid: int | None
    ) -> None:
        self._directory = directory
        self._bounds = (room, inodes)
        self._every = every
        self._uid = uid
        self._count: Iterator[None] | None = None
        self._found = self._known = (0, 0)  # bytes and inodes: of the count under way, of the last one
        self._free_then = self._free()
        self._begun = self._ended = time.monotonic()

    def look(self) -> bool:
        """Go on counting, or begin to where it may be needed. True: it has grown past a bound."""
        if self._count is None:
            if not self._is_due():
                return False
            self._begun = time.monotonic()
            self._found, self._count = (0, 0), self._all()
        until = time.monotonic() + _SLICE
        for _ in self._count:
            if self._is_above(self._found):
                return True
            if time.monotonic() > until:
                return False
        self._count, self._known, self._free_then = None, self._found, self._free()
        self._ended = time.monotonic()
        return self._is_above(self._known)

    @property
    def is_counting(self) -> bool:
        """Whether a count is under way, so that the next look should be soon."""
        return self._count is not None

    def _is_due(self) -> bool:
        since = time.monotonic() - self._ended
        if since < _PAUSE * (self._ended - self._begun):
            return False
        grown = [then - now for then, now in zip(self._free_then, self._free(), strict=True)]
        might = (self._known[0] + grown[0], self._known[1] + grown[1])
        return self._is_above(might) or (self._every is not None and since > self._every)

    def _is_above(self, amount: tuple[int, int]) -> bool:
        return any(bound is not None and one > bound for one, bound in zip(amount, self._bounds, strict=True))

    def _free(self) -> tuple[int, int]:
        found = os.statvfs(self._directory)
        return found.f_bfree * found.f_frsize, found.f_ffree  # the second is 0 where there is no such number

    def _add(self, info: os.stat_result) -> None:
        self._found = self._found[0] + info.st_blocks * 512, self._found[1] + 1

    def _all(self) -> Iterator[None]:
        """Count everything, in small steps."""
        seen = set[int]()  # files with several names
        for folder in _FOLDERS:
            waiting = [folder]
            while waiting:
                path = waiting.pop()
                for name, info in _entries(self._directory, path):
                    if stat.S_ISDIR(info.st_mode):
                        waiting.append(f"{path}/{name}")
                    elif info.st_nlink > 1:
                        if info.st_ino in seen:
                            continue
                        seen.add(info.st_ino)
                    self._add(info)
                    yield
                yield
        if self._uid is not None:
            yield from self._nameless(self._uid)

    def _nameless(self, uid: int) -> Iterator[None]:
        """Count files that are open or mapped in a process of the sandbox and have no name."""
        device = os.stat(self._directory).st_dev
        seen = set[int]()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            for folder in _tables(pid, uid):
                try:
                    names = os.listdir(f"/proc/{pid}/{folder}")
                except OSError:
                    continue  # it has ended
                for name in names:
                    try:
                        info = os.stat(f"/proc/{pid}/{folder}/{name}")
                    except OSError:
                        continue
                    yield
                    if info.st_nlink == 0 and info.st_dev == device and info.st_ino not in seen:
                        seen.add(info.st_ino)
                        self._add(info)


def _tables(pid: str, uid: int) -> list[str]:
    """Return where the files of a process of this user are listed, below its directory in /proc.

    A thread may have a table of its own, and the process's is gone when its first thread has ended.
    """
    try:
        if os.stat(f"/proc/{pid}").st_uid not in (uid, 0) or not _is_of(pid, uid):
            return []
        return ["map_files", *(f"task/{thread}/fd" for thread in os.listdir(f"/proc/{pid}/task"))]
    except OSError:
        return []  # it has ended


def _is_of(pid: str, uid: int) -> bool:
    """Return whether a process runs as this user; the owner of its files in /proc may be root."""
    with open(f"/proc/{pid}/status", "rb") as file:
        return any(line.startswith(b"Uid:") and int(line.split()[1]) == uid for line in file)


def _entries(base: str, path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield what is in a directory below ``base``. What goes meanwhile is left out; no link is followed."""
    try:
        handle = _open(base, path)
    except OSError:
        return
    try:
        try:
            names = os.listdir(handle)
        except PermissionError:
            names = []
        for name in names:
            try:
                yield name, os.stat(name, dir_fd=handle, follow_symlinks=False)
            except OSError:
                continue
    finally:
        os.close(handle)


def _open(base: str, path: str) -> int:
    """Open a directory, however deep it lies, by parts of its path."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(base, flags)
    part = ""
    names = path.split("/")
    for position, name in enumerate(names):
        part = f"{part}/{name}" if part else name
        if len(part) < _PATH_BYTES and position < len(names) - 1:
            continue
        try:
            below = os.open(part, flags, dir_fd=handle)
        finally:
            os.close(handle)
        handle, part = below, ""
    return handle
