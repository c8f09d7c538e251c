"""Archives as engines take them: sent in pieces, never whole in memory."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass

import anyio.lowlevel

_CHUNK = 1024 * 1024
_END = bytes(1024)


@dataclass(frozen=True, slots=True)
class Entry:
    """A directory, or a file with its bytes.

    Attributes:
        name: Relative, without a slash at either end.
        data: None is a directory.
        owner: uid and gid.
    """

    name: str
    data: bytes | None
    mode: int
    owner: int = 0


def pack(entries: Iterable[Entry]) -> bytes:
    """Return an archive of a few small things."""
    return b"".join(_entry(entry) for entry in entries) + _END


async def pack_tree(directory: str, name: str, first: Iterable[Entry]) -> AsyncIterator[bytes]:
    """Yield an archive of ``first`` and of what is in a directory, as root's, below ``name``."""
    for piece in _pieces(directory, name, first):
        await anyio.lowlevel.checkpoint()
        yield piece


def _pieces(directory: str, name: str, first: Iterable[Entry]) -> Iterator[bytes]:
    yield b"".join(_entry(entry) for entry in first)
    for path, relative in _walk(directory):
        head = _head(path, f"{name}/{relative}")
        yield head.tobuf(tarfile.PAX_FORMAT)
        if head.isreg():
            with open(path, "rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
            yield bytes(-head.size % tarfile.BLOCKSIZE)
    yield _END


def unpack_file(data: bytes) -> bytes:
    """Return the only file of an archive; nothing when there is none."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            if file is not None:
                return file.read()
    return b""


def _entry(entry: Entry) -> bytes:
    head = tarfile.TarInfo(entry.name)
    head.mode, head.uid, head.gid = entry.mode, entry.owner, entry.owner
    if entry.data is None:
        head.type = tarfile.DIRTYPE
        return head.tobuf(tarfile.PAX_FORMAT)
    head.size = len(entry.data)
    return head.tobuf(tarfile.PAX_FORMAT) + entry.data + bytes(-head.size % tarfile.BLOCKSIZE)


def _walk(directory: str) -> Iterator[tuple[str, str]]:
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for found in [*folders, *sorted(names)]:
            path = os.path.join(folder, found)
            yield path, os.path.relpath(path, directory)


def _head(path: str, name: str) -> tarfile.TarInfo:
    status = os.lstat(path)
    head = tarfile.TarInfo(name)
    head.mode = (status.st_mode & 0o777) | 0o444
    head.mtime = int(status.st_mtime)
    if stat.S_ISDIR(status.st_mode):
        head.type = tarfile.DIRTYPE
        head.mode |= 0o555
    elif stat.S_ISLNK(status.st_mode):
        head.type, head.linkname = tarfile.SYMTYPE, os.readlink(path)
    else:
        head.size = status.st_size
    return head
