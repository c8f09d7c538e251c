"""Archives that are packed, made by hand, and unpacked on the host."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from agenthost.files.ignore import Ignore, patterns_in, rules_of
from agenthost.files.inside.packing import Packed, pack
from agenthost.files.inside.rules import Rules
from agenthost.files.inside.staging import Stage
from agenthost.files.inside.unpacking import Unpacked, Unpacker
from agenthost.files.values import TransferLimits

STAGE = ".agenthost-stage"


def packed(directory: Path, ignore: Ignore | None = None) -> tuple[bytes, Packed]:
    """Return the archive of a directory as an upload makes it, and what was told of it."""
    told = Packed()
    rules = Rules(*rules_of(ignore or Ignore(), patterns_in(directory)))
    return b"".join(pack(str(directory), rules, TransferLimits().inner(), told, everything=False)), told


def names_of(data: bytes) -> set[str]:
    """Return the names in an archive."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return set(archive.getnames())


def unpacked(
    data: bytes,
    target: Path,
    limits: TransferLimits | None = None,
    ignore: Ignore | None = None,
    piece: int = 700,
) -> Unpacked:
    """Unpack an archive as a download does, in pieces of an odd size."""
    stage = Stage(str(target), STAGE)
    rules = Rules(*rules_of(ignore or Ignore(defaults=False)))
    unpacker = Unpacker(stage, rules, (limits or TransferLimits()).inner())
    try:
        for start in range(0, len(data), piece):
            unpacker.feed(data[start : start + piece])
        unpacker.finish()
    finally:
        unpacker.close()
        stage.close()
    return unpacker.told


def archive_of(*members: tarfile.TarInfo, content: bytes = b"evil") -> bytes:
    """Return an archive of these members; ``content`` goes on as often as a file is long."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO((content * (member.size // len(content) + 1))[: member.size]))
    return buffer.getvalue()


def member(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    """Return a header; a file has 4 bytes."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    info.size = 4 if kind == tarfile.REGTYPE else 0
    return info
