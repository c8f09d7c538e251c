"""A directory as an archive, piece by piece. No symlink is followed below it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from agenthost.files.inside.rules import Rules
from agenthost.files.inside.tar import END, Limits, Member, RefusedError, header, padding

PIECE = 256 * 1024  # bytes
_KEPT = 0o777


@dataclass
class Packed:
    """What went into an archive so far, and the names of what was left out."""

    members: int = 0
    files: int = 0
    size: int = 0
    left_out: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Graft:
    """A directory that is sent in place of a file, put together from others.

    Attributes:
        sources: Directories, and which names in them are wanted. What a later one has replaces.
        config: What its file ``config`` holds.
    """

    sources: tuple[tuple[str, Callable[[str], bool]], ...]
    config: bytes


class Substitutes:
    """What is sent in place of something; this one sends everything as it is."""

    def instead_of_config(self, path: str) -> bytes | None:  # noqa: ARG002 - subclasses use the path
        """Return a file's content in place of one that the defaults leave out; None leaves it out."""
        return None

    def instead_of_link(self, path: str) -> bytes | Graft | None:  # noqa: ARG002 - subclasses use the path
        """Return what is sent in place of a ``.git`` that is a file; None for the file as it is."""
        return None


@contextmanager
def named(path: str) -> Generator[None, None, None]:
    """Have an error name a whole path: where calls are relative to a directory it names the last part."""
    try:
        yield
    except OSError as error:
        error.filename = path
        if error.filename2 is not None:
            del error.filename2  # None would be printed as a second name
        raise


def pack(
    source: str,
    rules: Rules,
    limits: Limits,
    told: Packed,
    *,
    everything: bool,
    without: Collection[tuple[int, int]] = (),
    substitutes: Substitutes | None = None,
) -> Iterator[bytes]:
    """Yield the archive of a directory in pieces of about ``PIECE`` bytes.

    What is no file, directory or symlink, and symlinks that lead out of the directory, are left out; with
    ``everything`` they are in the archive, for a reader that judges by itself. Directories whose device and
    inode are in ``without`` are left out, whatever they are called. ``substitutes`` gives what is sent
    in place of some files.

    Raises:
        OSError: Something cannot be read, or became shorter while it was; the path is on it.
        RefusedError: It is more than the limits.
    """
    return _pieces(_Packer(source, rules, limits, told, everything, without, substitutes).run())


def _pieces(parts: Iterator[bytes]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


class _Packer:
    def __init__(
        self,
        source: str,
        rules: Rules,
        limits: Limits,
        told: Packed,
        everything: bool,
        without: Collection[tuple[int, int]],
        substitutes: Substitutes | None,
    ) -> None:
        self._source = source
        self._rules = rules
        self._limits = limits
        self._told = told
        self._everything = everything
        self._without = without
        self._substitutes = substitutes or Substitutes()

    def run(self) -> Iterator[bytes]:
        with named(self._source):
            root = os.open(self._source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        status = os.fstat(root)
        if (status.st_dev, status.st_ino) in self._without:
            os.close(root)
            raise RefusedError("it is a directory that agenthost keeps its state in")
        yield from self._directory(root, "", self._source)
        yield END

    def _directory(
        self, fd: int, prefix: str, where: str, wanted: Callable[[str], bool] = bool
    ) -> Iterator[bytes]:
        """Yield what is in a directory. ``where`` names it in errors; ``wanted`` says which names count."""
        try:
            with named(where):
                names = sorted(filter(wanted, os.listdir(fd)))
            for name in names:
                yield from self._entry(fd, name, prefix + name, os.path.join(where, name))
        finally:
            os.close(fd)

    def _entry(self, fd: int, name: str, path: str, full: str) -> Iterator[bytes]:
        try:
            with named(full):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                is_directory = stat.S_ISDIR(status.st_mode)
                is_kept = is_directory and (status.st_dev, status.st_ino) in self._without
                if is_kept or self._rules.leave_out(path, is_directory=is_directory):
                    yield from self._left_out(path, status)
                    return
                if is_directory:
                    inner = os.open(
                        name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd
                    )
                elif stat.S_ISREG(status.st_mode):
                    # O_NONBLOCK: it may have become a FIFO since.
                    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                    inner = os.open(name, flags, dir_fd=fd)
                else:
                    yield self._other(fd, name, path, status)
                    return
        except FileNotFoundError:
            return  # it was removed since its directory was read
        if is_directory:
            try:
                yield self._header(_member(path, "directory", status))
            except BaseException:
                os.close(inner)
                raise
            yield from self._directory(inner, path + "/", full)
            return
        try:
            instead = self._substitutes.instead_of_link(path) if name == ".git" else None
            if isinstance(instead, Graft):
                yield from self._graft(instead, path, status)
            elif instead is not None:
                yield from self._content(instead, path, status)
            else:
                with named(full):
                    yield from self._file(inner, path)
        finally:
            os.close(inner)

    def _left_out(self, path: str, status: os.stat_result) -> Iterator[bytes]:
        content = None
        if stat.S_ISREG(status.st_mode) and self._rules.is_secret(path):
            content = self._substitutes.instead_of_config(path)
        if content is None:
            self._told.left_out.append(path)
        else:
            yield from self._content(content, path, status)

    def _content(self, content: bytes, path: str, status: os.stat_result) -> Iterator[bytes]:
        yield self._header(_member(path, "file", status, size=len(content)))
        yield content
        yield padding(len(content))

    def _graft(self, graft: Graft, path: str, status: os.stat_result) -> Iterator[bytes]:
        if self._rules.leave_out(path, is_directory=True):
            self._told.left_out.append(path)
            return
        yield self._header(Member(path, "directory", mode=0o755, mtime=status.st_mtime))
        for where, wanted in graft.sources:
            with named(where):
                fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            yield from self._directory(fd, path + "/", where, wanted)
        yield from self._content(graft.config, path + "/config", status)

    def _other(self, fd: int, name: str, path: str, status: os.stat_result) -> bytes:
        if stat.S_ISLNK(status.st_mode):
            link = os.readlink(name, dir_fd=fd)
            if self._everything or stays_inside(link, path):
                return self._header(_member(path, "symlink", status, link=link))
        elif self._everything:
            return self._header(_member(path, "other", status))
        self._told.left_out.append(path)
        return b""

    def _file(self, fd: int, path: str) -> Iterator[bytes]:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it became something else than a file while it was read")
        size = status.st_size
        first = os.read(fd, min(size, PIECE))
        if size <= PIECE:  # what it is now, if it is being written
            size = len(first)
        yield self._header(_member(path, "file", status, size=size))
        yield first
        left = size - len(first)
        while left:
            data = os.read(fd, min(left, PIECE))
            if not data:
                raise OSError(errno.EIO, "the file became shorter while it was read")
            left -= len(data)
            yield data
        yield padding(size)

    def _header(self, member: Member) -> bytes:
        told = self._told
        told.members += 1
        told.files += member.kind != "directory"
        told.size += member.size
        self._limits.check(member.name, members=told.members, size=told.size)
        return header(member)


def _member(path: str, kind: str, status: os.stat_result, *, size: int = 0, link: str = "") -> Member:
    return Member(path, kind, size=size, mode=status.st_mode & _KEPT, mtime=status.st_mtime, link=link)


def stays_inside(target: str, link: str) -> bool:
    """Return whether a symlink at ``link`` leads to a place in the directory, whatever other links are there.

    ``..`` is taken only at the beginning: behind a name, which may be a link itself, it leads anywhere.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = 0
    while up < len(parts) and parts[up] == "..":
        up += 1
    return not target.startswith("/") and bool(target) and ".." not in parts[up:] and up <= link.count("/")
