"""Spools on disk: what a process printed and nobody has read yet, and files as they are read."""

from __future__ import annotations

import os
from collections import deque

from agenthost.wire.spool import MemorySpool

MEMORY = 1024 * 1024  # at most this much of one stream stays in memory
SEGMENT = 8 * 1024 * 1024  # acknowledged bytes go from the disk in pieces of this size


class DiskSpool:
    """The newest bytes in memory, older ones in files that have no name and so cannot be left behind."""

    def __init__(self, directory: str, *, memory: int = MEMORY, segment: int = SEGMENT) -> None:
        self._directory = directory
        self._memory = memory
        self._segment = segment
        self._tail = MemorySpool()
        self._segments: deque[tuple[int, int, int]] = deque()  # begin, end, fd

    @property
    def base(self) -> int:
        """Offset of the oldest byte kept."""
        return self._segments[0][0] if self._segments else self._tail.base

    @property
    def end(self) -> int:
        """Offset behind the newest byte."""
        return self._tail.end

    def append(self, data: bytes) -> None:
        """Add bytes. OSError (ENOSPC) when the disk is full; then nothing was added."""
        if self._tail.end - self._tail.base + len(data) > self._memory:
            self._spill()
        self._tail.append(data)

    def read(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``offset``."""
        if offset >= self._tail.base:
            return self._tail.read(offset, size)
        for begin, end, fd in self._segments:
            if begin <= offset < end:
                return os.pread(fd, min(size, end - offset), offset - begin)
        raise ValueError(f"offset {offset} is outside {self.base}..{self.end}")

    def trim(self, offset: int) -> None:
        """Let go of segments that lie below ``offset``, and of memory."""
        while self._segments and self._segments[0][1] <= offset:
            os.close(self._segments.popleft()[2])
        if not self._segments:
            self._tail.trim(offset)

    def close(self) -> None:
        """Let go of everything."""
        while self._segments:
            os.close(self._segments.popleft()[2])
        self._tail.close()

    def _spill(self) -> None:
        """Move the tail to disk, whole or not at all."""
        begin, end = self._tail.base, self._tail.end
        if begin == end:
            return
        if self._segments and self._segments[-1][1] - self._segments[-1][0] < self._segment:
            first, _, fd = self._segments[-1]
        else:
            first, fd = begin, _nameless_file(self._directory)
            self._segments.append((first, begin, fd))
        offset = begin
        while offset < end:
            offset += os.pwrite(fd, self._tail.read(offset, self._memory), offset - first)
        self._segments[-1] = (first, end, fd)
        self._tail.trim(end)


class FileSpool:
    """A regular file as a stream: nothing is copied, nothing is kept in memory."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.base = 0
        self.end = size

    def append(self, data: bytes) -> None:
        """Never: a file is read, not written, this way."""
        raise ValueError(f"{len(data)} bytes for a stream that is a file being read")

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the file; none when it became shorter, and then that is its end.

        The host knows the size that it was to have. An error here would end nothing but this guest's turn.
        """
        try:
            data = os.pread(self._fd, min(size, self.end - offset), offset)
        except OSError:
            data = b""
        if not data:
            self.end = offset
        return data

    def trim(self, offset: int) -> None:
        """Nothing to let go of."""

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self.base = self.end


def _nameless_file(directory: str) -> int:
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        # Not every file system has O_TMPFILE (overlayfs on old kernels, 9p).
        path = os.path.join(directory, "." + os.urandom(12).hex())
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        return fd
