"""A directory that is filled beside its place and put there as a whole, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator

from agenthost.files.inside.packing import named

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = "new"


class Stage:
    """Where a target directory is filled.

    It lies in the target where that is there, so that both are on one file system, and else in the nearest
    directory above it. ``commit`` moves what is in it: a target that is not there yet comes to be whole, in
    one step; in one that is there, each file and each new directory.

    Attributes:
        target: The directory, as the caller named it.
        fd: The open directory to fill.
    """

    def __init__(self, target: str, name: str, keeps: Callable[[str], bool] | None = None) -> None:
        """Make it.

        Args:
            target: A directory, or where one is to be.
            name: Of the directory that is made for the time being; unique.
            keeps: Whether a file of the target is not replaced, by its path.

        Raises:
            OSError: It cannot be made; NotADirectoryError where the target, or a part of the way, is a file.
        """
        self.target = target
        self._keeps = keeps
        with named(target):
            if os.path.lexists(target) and not os.path.isdir(target):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            self._there = os.path.isdir(target)
            self._base = os.path.join(_nearest(target), name)
            os.mkdir(self._base, 0o700)
            try:
                os.mkdir(os.path.join(self._base, _NEW))
                self.fd = os.open(os.path.join(self._base, _NEW), _DIRECTORY)
            except BaseException:
                shutil.rmtree(self._base)
                raise

    def commit(self) -> Iterator[tuple[str, int, int]]:
        """Move what is in it to the target. Yields what could not be: its path, its files and their bytes.

        That is where the target has a directory and the archive a file, or the other way round. A file or a
        symlink of the target is replaced, unless it is one that is kept; a symlink is never followed.
        """
        with named(self.target):
            if not self._there:
                os.makedirs(os.path.dirname(os.path.abspath(self.target)), exist_ok=True)
                os.rename(os.path.join(self._base, _NEW), self.target)
                return
            target = os.open(self.target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield from self._merge(self.fd, target, "")
        finally:
            os.close(target)

    def _merge(self, source: int, target: int, prefix: str) -> Iterator[tuple[str, int, int]]:
        for name in sorted(os.listdir(source)):
            path = prefix + name
            inner: list[int] = []
            try:
                with named(os.path.join(self.target, path)):
                    if self._keeps is not None and self._keeps(path) and _is_file(name, target):
                        yield path, *_count(name, source)
                        continue
                    if _move(name, source, target):
                        continue
                    try:
                        inner.append(os.open(name, _DIRECTORY, dir_fd=source))
                        inner.append(os.open(name, _DIRECTORY, dir_fd=target))
                    except NotADirectoryError:  # a symlink, too
                        yield path, *_count(name, source)
                        continue
                yield from self._merge(inner[0], inner[1], path + "/")
            finally:
                for fd in inner:
                    os.close(fd)

    def close(self) -> None:
        """Remove what was not moved. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if os.path.lexists(self._base):
            shutil.rmtree(self._base)


def _move(name: str, source: int, target: int) -> bool:
    """Put a file, or a new directory, in its place. Returns False where one of the two is a directory."""
    new = os.stat(name, dir_fd=source, follow_symlinks=False)
    try:
        old = os.stat(name, dir_fd=target, follow_symlinks=False)
    except FileNotFoundError:
        pass
    else:
        if stat.S_ISDIR(new.st_mode) or stat.S_ISDIR(old.st_mode):
            return False
    os.replace(name, name, src_dir_fd=source, dst_dir_fd=target)
    return True


def _is_file(name: str, fd: int) -> bool:
    """Return whether there is something that is not a directory."""
    try:
        return not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def discard(target: str, name: str) -> None:
    """Remove the stage of a program that was killed."""
    above = os.path.abspath(target)
    while True:
        base = os.path.join(above, name)
        if os.path.lexists(base):
            shutil.rmtree(base)
        if above == os.path.dirname(above):
            return
        above = os.path.dirname(above)


def _nearest(target: str) -> str:
    above = os.path.abspath(target)
    while not os.path.isdir(above):
        if os.path.lexists(above) and not os.path.islink(above):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        above = os.path.dirname(above)
    return above


def _count(name: str, fd: int) -> tuple[int, int]:
    """Return how many files there are, and their bytes."""
    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        return 1, status.st_size if stat.S_ISREG(status.st_mode) else 0
    files = size = 0
    for _, _, names, inner in os.fwalk(name, dir_fd=fd):
        for one in names:
            found = os.stat(one, dir_fd=inner, follow_symlinks=False)
            files += 1
            size += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return files, size
