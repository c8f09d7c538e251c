"""Files in memory, with the errors of a real system."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass

from agenthost.spec import check_text


@dataclass(slots=True)
class FakeFile:
    """A file. ``mode`` is its permission bits."""

    data: bytes
    mode: int = 0o644


class FakeFiles(MutableMapping[str, bytes]):
    """The files of a FakeSandbox by absolute path. Directories are there when a file is in them.

    As a mapping it is for tests: ``sandbox.files["/workspace/a"] = b"..."``.
    """

    def __init__(self, workdir: str) -> None:
        self._workdir = workdir
        self._files: dict[str, FakeFile] = {}
        self._directories = {"/", "/tmp"}
        self._make(workdir)

    def __getitem__(self, path: str) -> bytes:
        return self._files[posixpath.join(self._workdir, path)].data

    def __setitem__(self, path: str, data: bytes) -> None:
        self.write(posixpath.join(self._workdir, path), data, 0o644)

    def __delitem__(self, path: str) -> None:
        del self._files[posixpath.join(self._workdir, path)]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._files))

    def __len__(self) -> int:
        return len(self._files)

    def mode(self, path: str) -> int:
        """Return the permission bits of a file."""
        return self._files[posixpath.join(self._workdir, path)].mode

    def is_directory(self, path: str) -> bool:
        """Return whether there is such a directory."""
        return self._resolve(path) in self._directories

    def directories(self) -> list[str]:
        """Return every directory."""
        return sorted(self._directories)

    def make_directory(self, path: str) -> None:
        """Make a directory with its parents. NotADirectoryError where a file is in the way."""
        self._make(self._resolve(path), path)

    def clear(self) -> None:
        """Remove every file and directory but the first ones."""
        self._files.clear()
        self._directories = {"/", "/tmp"}
        self._make(self._workdir)

    def read(self, path: str) -> bytes:
        """Return a file's bytes. As ``Sandbox.read_file``."""
        full = self._resolve(path)
        if full in self._directories:
            raise _error(errno.EISDIR, path)
        file = self._files.get(full)
        if file is None or path.endswith("/"):
            raise _error(
                errno.ENOENT if file is None and not self._below_a_file(full) else errno.ENOTDIR, path
            )
        return file.data

    def write(self, path: str, data: bytes, mode: int) -> None:
        """Replace a file. As ``Sandbox.write_file``."""
        full = self._resolve(path)
        if full in self._directories or path.endswith("/"):
            raise _error(errno.EISDIR, path)
        self._make(posixpath.dirname(full), path)
        self._files[full] = FakeFile(bytes(data), mode)

    def _resolve(self, path: str) -> str:
        check_text("path", path)
        full = posixpath.normpath(posixpath.join(self._workdir, path))
        if any(len(os.fsencode(part)) > 255 for part in full.split("/")):
            raise _error(errno.ENAMETOOLONG, path)
        inside = full == self._workdir or full.startswith(self._workdir.rstrip("/") + "/")
        if not path.startswith("/") and not inside:
            raise PermissionError(errno.EACCES, "a relative path leads out of the working directory", path)
        return full

    def _make(self, directory: str, shown: str = "") -> None:
        if directory in self._files or self._below_a_file(directory):
            raise _error(errno.ENOTDIR, shown)
        while directory not in self._directories:
            self._directories.add(directory)
            directory = posixpath.dirname(directory)

    def _below_a_file(self, full: str) -> bool:
        while full != "/":
            full = posixpath.dirname(full)
            if full in self._files:
                return True
        return False


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
