"""An archive as a directory: written beside its place, and put there when it is whole.

Nothing in the archive is trusted. Every call is relative to a directory that is held open, and none follows
a symlink, so that nothing is written elsewhere whatever the archive, or the place, holds.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field

from agenthost.files.inside.packing import named, stays_inside
from agenthost.files.inside.rules import Rules
from agenthost.files.inside.staging import Stage
from agenthost.files.inside.tar import Limits, Member, Reader, RefusedError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TOLD = 10_000  # names of what was refused
_HOLE = 64 * 1024  # bytes of zeros, at least, that are not written


@dataclass
class Unpacked:
    """What came out of an archive so far, and the names of what was refused: of the first 10,000."""

    members: int = 0
    files: int = 0
    size: int = 0
    refused: list[str] = field(default_factory=list[str])

    def refuse(self, name: str) -> None:
        """Keep the name of what was refused."""
        if len(self.refused) < _TOLD:
            self.refused.append(name)


class Unpacker:
    """Takes an archive in pieces and writes it into a Stage."""

    def __init__(self, stage: Stage, rules: Rules, limits: Limits) -> None:
        self.told = Unpacked()
        self._stage = stage
        self._rules = rules
        self._limits = limits
        self._reader = Reader()
        self._seen_size = 0
        self._came = 0  # bytes of the archive, with what stands behind its end
        self._file: int | None = None
        self._left = 0
        self._written: Member | None = None
        self._times: list[tuple[str, float]] = []  # of directories: they change with what is put into them

    def feed(self, data: bytes) -> None:
        """Take bytes in.

        Raises:
            RefusedError: It is no archive, or more than the limits.
            OSError: It cannot be written; the path is on it.
        """
        self._came += len(data)
        if self._came > self._limits.archive():
            raise RefusedError(f"more than {self._limits.archive()} bytes as an archive")
        for item in self._reader.feed(data):
            if isinstance(item, Member):
                self._begin(item)
            elif self._file is not None:
                self._write(item)

    def finish(self) -> None:
        """Put what came where it belongs. Raises RefusedError when the archive was not whole."""
        if not self._reader.ended:
            raise RefusedError("no readable tar archive (it ends too early)")
        for path, mtime in reversed(self._times):
            fd = self._open(path.split("/"))
            try:
                _set_time(fd, mtime)
            finally:
                os.close(fd)
        for path, files, size in self._stage.commit():
            self.told.refuse(path)
            self.told.files -= files
            self.told.size -= size

    def close(self) -> None:
        """Close what is open. Idempotent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _begin(self, member: Member) -> None:
        self.told.members += 1
        self._seen_size += member.size
        self._limits.check(member.name, members=self.told.members, size=self._seen_size)
        parts = [part for part in member.name.split("/") if part != "."]
        if not parts or not all(parts) or ".." in parts or "\0" in member.name + member.link:
            if parts or member.kind != "directory":  # "." itself is there already
                self.told.refuse(member.name)
            return
        path = "/".join(parts)
        if self._rules.leave_out_below(path, is_directory=member.kind == "directory"):
            self.told.refuse(member.name)
            return
        with named(os.path.join(self._stage.target, path)):
            try:
                parent = self._open(parts[:-1])
                try:
                    made = self._make(member, parts[-1], path, parent)
                finally:
                    os.close(parent)
            except OSError as error:
                # A part of the way is a file or a symlink, or a directory is in the place of a file.
                if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EEXIST):
                    raise
                made = False
        if not made:
            self.told.refuse(member.name)

    def _make(self, member: Member, name: str, path: str, parent: int) -> bool:
        if member.kind == "directory":
            try:
                os.mkdir(name, member.mode & 0o755 | 0o700, dir_fd=parent)
            except FileExistsError:
                return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
            self._times.append((path, member.mtime))
            return True
        if member.kind == "symlink":
            if not stays_inside(member.link, path):
                return False
            self._replace(name, parent)
            os.symlink(member.link, name, dir_fd=parent)
            self.told.files += 1
            return True
        if member.kind != "file":
            return False
        self._replace(name, parent)
        self._file = os.open(name, _NEW_FILE, member.mode & 0o755 | 0o600, dir_fd=parent)
        self._left, self._written = member.size, member
        if not member.size:
            self._end_file()
        return True

    def _replace(self, name: str, parent: int) -> None:
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        os.unlink(name, dir_fd=parent)  # EISDIR for a directory
        self.told.files -= 1
        self.told.size -= status.st_size if stat.S_ISREG(status.st_mode) else 0

    def _write(self, piece: memoryview) -> None:
        fd, member = self._file, self._written
        assert fd is not None
        assert member is not None
        with named(os.path.join(self._stage.target, member.name)):
            self._left -= len(piece)
            if len(piece) >= _HOLE and not any(piece[:64]) and bytes(piece).count(0) == len(piece):
                os.lseek(fd, len(piece), os.SEEK_CUR)
            else:
                while piece:
                    piece = piece[os.write(fd, piece) :]
            if not self._left:
                self._end_file()

    def _end_file(self) -> None:
        fd, member = self._file, self._written
        assert fd is not None
        assert member is not None
        os.ftruncate(fd, member.size)  # there may be a hole at the end
        _set_time(fd, member.mtime)
        self.close()
        self.told.files += 1
        self.told.size += member.size

    def _open(self, parts: list[str]) -> int:
        """Return a directory of the stage, which is made if needed."""
        fd = os.dup(self._stage.fd)
        try:
            for part in parts:
                try:
                    inner = os.open(part, _DIRECTORY, dir_fd=fd)
                except FileNotFoundError:
                    os.mkdir(part, 0o755, dir_fd=fd)
                    inner = os.open(part, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = inner
        except BaseException:
            os.close(fd)
            raise
        return fd


def _set_time(fd: int, mtime: float) -> None:
    try:
        os.utime(fd, (mtime, mtime))
    except (ValueError, OverflowError):
        return  # no time that a file can have
