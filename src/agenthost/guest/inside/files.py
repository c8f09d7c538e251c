"""Files: whole or not at all, bytes as they are, errors as the kernel gives them."""

from __future__ import annotations

import errno
import os
import stat
import tempfile

_SPECIAL_LIMIT = 64 * 1024 * 1024  # most that is read of a file that tells no size, such as those in /proc


def resolve(path: str, workdir: str) -> str:
    """Return the absolute path. A relative one must not leave ``workdir``, also not by a symlink.

    Raises:
        PermissionError: It leaves the workdir.
    """
    if os.path.isabs(path):
        return path
    full = os.path.normpath(os.path.join(workdir, path))
    root = os.path.realpath(workdir)
    real = os.path.realpath(full)
    if real != root and not real.startswith(root.rstrip("/") + "/"):
        raise PermissionError(errno.EACCES, "a relative path leads out of the working directory", path)
    return full


def open_for_reading(path: str) -> tuple[int, int]:
    """Return a file descriptor and the size. OSError for what is no regular file."""
    # O_NONBLOCK: opening a FIFO that nobody writes must not hang the guest.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
    except BaseException:
        os.close(fd)
        raise
    return fd, status.st_size


def read_all(fd: int) -> bytes:
    """Read a file that tells no size to its end."""
    parts: list[bytes] = []
    size = 0
    while size < _SPECIAL_LIMIT and (data := os.read(fd, 1024 * 1024)):
        parts.append(data)
        size += len(data)
    return b"".join(parts)


class FileWriter:
    """A file being written beside its place, and moved there when it is whole."""

    def __init__(self, path: str, mode: int) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if path.endswith("/"):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self._path = path
        self._mode = mode
        folder = os.path.dirname(path) or "/"
        os.makedirs(folder, exist_ok=True)
        self._fd, self._temporary = tempfile.mkstemp(prefix=".agenthost-", dir=folder)

    def write(self, data: bytes) -> None:
        """Add bytes. OSError when the disk is full."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def commit(self) -> None:
        """Put the file in its place with its mode. A symlink there is replaced, not followed."""
        try:
            os.fchmod(self._fd, self._mode)
            os.replace(self._temporary, self._path)
        except BaseException:
            self.abort()
            raise
        os.close(self._fd)
        self._fd = -1

    def abort(self) -> None:
        """Leave nothing behind. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            os.unlink(self._temporary)
