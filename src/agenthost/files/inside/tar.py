"""Tar archives, written and read in pieces: plain files, directories and symlinks in the pax format.

``tarfile`` reads more kinds of archive than are needed here, each with headers of its own; what a sandbox
sends is not trusted, so that the fewest are read. Its own function reads and writes a single header.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

BLOCK = 512
END = bytes(2 * BLOCK)
MAX_HEADER = 16 * 1024  # bytes that tell more of the member that follows: a path, a link and some numbers
MAX_NAME = 4096  # bytes of a path; the kernel takes no longer one
_SHOWN = 200  # characters of a name in an error

_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    # Told by name, and never made.
    tarfile.LNKTYPE: "other",
    tarfile.CHRTYPE: "other",
    tarfile.BLKTYPE: "other",
    tarfile.FIFOTYPE: "other",
}
_TYPES = {
    "file": tarfile.REGTYPE,
    "directory": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "other": tarfile.FIFOTYPE,
}


class RefusedError(Exception):
    """An archive is none, or more than is accepted."""


@dataclass(frozen=True)
class Limits:
    """How much travels at once.

    Attributes:
        members: Files, directories and links together.
        size: Bytes of all files together, holes of sparse files included.
        depth: Names in a path.
    """

    members: int
    size: int
    depth: int

    def archive(self) -> int:
        """Return how many bytes an archive may have: with headers and padding, and with long names."""
        return self.size + 4 * MAX_NAME * (self.members + 1)

    def check(self, name: str, *, members: int, size: int) -> None:
        """Raise RefusedError when it is too much with the member ``name``."""
        if members > self.members:
            raise RefusedError(f"more than {self.members} files and directories")
        if size > self.size:
            raise RefusedError(f"more than {self.size} bytes in all, with {shown(name)}")
        length = len(name.encode("utf-8", "surrogateescape"))
        if length > MAX_NAME:
            raise RefusedError(f"a path of {length} bytes, {shown(name)}, at most {MAX_NAME} are accepted")
        depth = name.strip("/").count("/") + 1
        if depth > self.depth:
            raise RefusedError(f"a path of {depth} names, {shown(name)}, at most {self.depth} are accepted")


def shown(name: str) -> str:
    """Return a name as it can stand in an error."""
    return ascii(name[:_SHOWN])


@dataclass(frozen=True)
class Member:
    """One entry of an archive. ``mtime`` is seconds since the epoch."""

    name: str
    kind: str  # file, directory, symlink or other
    size: int = 0
    mode: int = 0o644
    mtime: float = 0.0
    link: str = ""


def header(member: Member) -> bytes:
    """Return the blocks before a member's content."""
    info = tarfile.TarInfo(member.name)
    info.type = _TYPES[member.kind]
    info.size, info.mode, info.mtime, info.linkname = member.size, member.mode, member.mtime, member.link
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> bytes:
    """Return what fills the last block of a content."""
    return bytes(-size % BLOCK)


class Reader:
    """Yields members, and the pieces of their contents, as the bytes of an archive come in."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0  # bytes of the content that are still to come
        self._padding = 0
        self._wanted = 0  # bytes of a header that tells of the next member; 0 when none is read
        self._records: dict[str, str] = {}
        self._told = False  # whether the header before told of the next one
        self._zeros = 0
        self.ended = False

    def feed(self, data: bytes) -> Iterator[Member | memoryview]:
        """Take bytes in. Each Member is followed by its content; what comes after the end is dropped."""
        view = memoryview(data)
        while len(view) and not self.ended:
            if self._left:
                piece, view = view[: self._left], view[self._left :]
                self._left -= len(piece)
                yield piece
                continue
            if self._padding:
                skipped = min(self._padding, len(view))
                self._padding -= skipped
                view = view[skipped:]
                continue
            missing = (self._wanted or BLOCK) - len(self._buffer)
            self._buffer += view[:missing]
            view = view[missing:]
            if len(self._buffer) == (self._wanted or BLOCK):
                block = bytes(self._buffer)
                self._buffer.clear()
                member = self._read(block)
                if member is not None:
                    yield member

    def _read(self, block: bytes) -> Member | None:
        if self._wanted:
            self._padding, self._wanted = -self._wanted % BLOCK, 0
            self._records, self._told = _records(block), True
            return None
        if not any(block):
            self._zeros += 1
            self.ended = self._zeros == 2
            return None
        if self._zeros:
            raise RefusedError("no readable tar archive (something stands behind its end)")
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.TarError, ValueError) as error:
            raise RefusedError(f"no readable tar archive ({error})") from error
        if info.size < 0:
            raise RefusedError(f"no readable tar archive (a header tells a size of {info.size})")
        if info.type == tarfile.XHDTYPE:
            if self._told:
                raise RefusedError("no readable tar archive (two headers for one member)")
            if not 0 < info.size <= MAX_HEADER:
                raise RefusedError(f"a header of {info.size} bytes, at most {MAX_HEADER} are accepted")
            self._wanted = info.size
            return None
        return self._member(info)

    def _member(self, info: tarfile.TarInfo) -> Member:
        records, self._records, self._told = self._records, {}, False
        if info.type not in _KINDS:
            raise RefusedError(f"no readable tar archive (a member of type {info.type!r})")
        if any(key.startswith("GNU.sparse") for key in records):
            raise RefusedError("no readable tar archive (a sparse member)")
        kind = _KINDS[info.type]
        try:
            size = int(records.get("size", info.size)) if kind == "file" else 0
            mtime = float(records.get("mtime", info.mtime))
        except (ValueError, OverflowError) as error:
            raise RefusedError(f"no readable tar archive ({error})") from error
        if size < 0:
            raise RefusedError(f"no readable tar archive (a header tells a size of {size})")
        self._left, self._padding = size, -size % BLOCK
        name = records.get("path", info.name)
        return Member(
            # One slash behind a directory's name is how archives write it.
            name=name.removesuffix("/") if kind == "directory" else name,
            kind=kind,
            size=size,
            mode=info.mode,
            mtime=mtime,
            link=records.get("linkpath", info.linkname),
        )


def _records(data: bytes) -> dict[str, str]:
    """Return what a pax header says: lines ``length key=value``, where the length counts the whole line."""
    found: dict[str, str] = {}
    start = 0
    while start < len(data):
        digits, space, _ = data[start : start + 20].partition(b" ")
        if not space or not digits.isdigit():
            raise RefusedError("no readable tar archive (a header without lengths)")
        end = start + int(digits)
        key, equals, value = data[start + len(digits) + 1 : end].partition(b"=")
        if end > len(data) or not equals or not value.endswith(b"\n"):
            raise RefusedError("no readable tar archive (a header that is not whole)")
        found[key.decode("utf-8", "surrogateescape")] = value[:-1].decode("utf-8", "surrogateescape")
        start = end
    return found
