"""Files: whole or not at all, bytes as they are, errors as the kernel gives them."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager

from agenthost.guest.agent_user import as_agent

_SPECIAL_LIMIT = 64 * 1024 * 1024  # most that is read of a file that tells no size, such as those in /proc


@contextmanager
def named(path: str) -> Generator[None]:
    """Act with the agent's rights, and have an error name the path that the caller gave."""
    try:
        with as_agent():
            yield
    except OSError as exc:
        exc.filename = path
        raise


def resolve(path: str, workdir: str, *, follow: bool) -> str:
    """Return the absolute path. A relative one must not leave ``workdir``, also not by a symlink.

    Without ``follow`` the last part may be a symlink to anywhere: it will be replaced.

    Raises:
        PermissionError: It leaves the workdir.
    """
    if os.path.isabs(path):
        return path
    full = os.path.normpath(os.path.join(workdir, path))
    root = os.path.realpath(workdir)
    real = os.path.realpath(full if follow or full == root else os.path.dirname(full))
    if real != root and not real.startswith(root.rstrip("/") + "/"):
        raise PermissionError(errno.EACCES, "a relative path leads out of the working directory")
    return full + "/" if path.endswith("/") else full


def open_for_reading(path: str) -> tuple[int, int]:
    """Return a file descriptor and the size. OSError for what is no regular file."""
    # O_NONBLOCK: opening a FIFO that nobody writes must not hang the guest.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
    except BaseException:
        os.close(fd)
        raise
    return fd, status.st_size


def read_all(fd: int) -> bytes:
    """Read a file that tells no size to its end. OSError for one without an end."""
    parts: list[bytes] = []
    size = 0
    while data := os.read(fd, 1024 * 1024):
        parts.append(data)
        size += len(data)
        if size > _SPECIAL_LIMIT:
            raise OSError(errno.EFBIG, f"a file that tells no size is longer than {_SPECIAL_LIMIT} bytes")
    return b"".join(parts)


class FileWriter:
    """A file being written beside its place, and moved there when it is whole."""

    def __init__(self, path: str, mode: int) -> None:
        if path.endswith("/") or (os.path.isdir(path) and not os.path.islink(path)):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        self._path = path
        self._mode = mode
        folder = os.path.dirname(path) or "/"
        try:
            os.makedirs(folder, exist_ok=True)
        except FileExistsError as exc:  # a part of the way is there, and is no directory
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from exc
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
            with as_agent():
                os.unlink(self._temporary)
