"""The files below a directory with their digests, within bounds. No symlink is followed."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

MOST_FILES = 10_000
MOST_BYTES = 256 * 1024 * 1024
MOST_SECONDS = 5.0
_DEEPEST = 64  # names in a path
_PIECE = 1024 * 1024  # bytes read at once


class Digests:
    """One walk.

    Attributes:
        files: Digests by path.
        complete: Whether no bound was reached.
    """

    def __init__(self, files: int, size: int, seconds: float) -> None:
        self.files: dict[str, str] = {}
        self.complete = True
        self._most = files
        self._left = size
        self._end = time.monotonic() + seconds

    def walk(self, root: str) -> None:
        """Take in all that is below a directory. OSError when the directory itself cannot be read."""
        with os.scandir(root) as opened:
            entries = self._sorted(opened)
        self._take(entries, "", 1)

    def _take(self, entries: list[os.DirEntry[str]], prefix: str, depth: int) -> None:
        for entry in entries:
            if len(self.files) >= self._most or time.monotonic() > self._end:
                self.complete = False
                return
            name = prefix + entry.name
            if not entry.is_dir(follow_symlinks=False):
                self.files[name] = self._digest(entry)
                continue
            try:
                with os.scandir(entry.path) as opened:
                    inner = self._sorted(opened)
            except OSError:
                self.files[name] = "unread"
                continue
            if depth >= _DEEPEST:
                self.complete = False
            else:
                self._take(inner, name + "/", depth + 1)

    def _sorted(self, entries: Iterator[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
        """Return the entries of a directory; of one with more than the bound, some of them."""
        found = list(islice(entries, self._most + 1))
        self.complete = self.complete and len(found) <= self._most
        return sorted(found, key=lambda entry: entry.name)

    def _digest(self, entry: os.DirEntry[str]) -> str:
        try:
            if entry.is_symlink():
                return "link:" + hashlib.sha256(os.fsencode(os.readlink(entry.path))).hexdigest()
            if not entry.is_file(follow_symlinks=False):
                return "other"
            # Another file may be in its place by now: a pipe must not be waited for, nor a link followed.
            fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return self._read(fd)
            finally:
                os.close(fd)
        except OSError:
            return "unread"

    def _read(self, fd: int) -> str:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return "other"
        digest = hashlib.sha256()
        while self._left > 0 and time.monotonic() <= self._end:
            piece = os.read(fd, min(_PIECE, self._left + 1))
            if not piece:
                return "file:" + digest.hexdigest()
            self._left -= len(piece)
            digest.update(piece)
        self.complete = False
        return "unread"


def digests_below(path: str, bounds: list[Any]) -> dict[str, object]:
    """Return what ``digest_dir`` asks for."""
    found = Digests(int(bounds[0]), int(bounds[1]), float(bounds[2]))
    found.walk(path)
    return {"files": found.files, "complete": found.complete}
