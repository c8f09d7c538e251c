"""What transfers are told and tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from agenthost.errors import ConfigError
from agenthost.files.inside.tar import Limits

FileKind = Literal["file", "directory", "symlink", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferLimits:
    """How much travels at once, either way. More is an error, and nothing has changed then.

    Attributes:
        members: Files, directories and links together, also those that are refused.
        size: Bytes of all files together, holes of sparse files included.
        depth: Names in a path.
    """

    members: int = 100_000
    size: int = 4 * 1024**3
    depth: int = 64

    def __post_init__(self) -> None:
        """Refuse what bounds nothing. A path of 200 names holds as many directories open."""
        if self.members < 0 or self.size < 0 or not 1 <= self.depth <= 200:
            raise ConfigError(f"{self!r}: members and size are at least 0, depth is 1 to 200")

    def inner(self) -> Limits:
        """Return them for what works on files."""
        return Limits(self.members, self.size, self.depth)


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far a transfer is.

    Attributes:
        members: Files, directories and links so far.
        size: Bytes of files so far.
    """

    members: int
    size: int


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What an upload did.

    Attributes:
        files: How many files and symlinks were written.
        size: Their bytes.
        ignored: What was left out, relative to the source: what patterns named, special files, and symlinks
            that lead out of it. Of a directory that was left out, its name alone.
        refused: What could not be written, because a directory is in the place of a file or the other way
            round.
    """

    files: int
    size: int
    ignored: list[str] = field(default_factory=list[str])
    refused: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What a download did.

    Attributes:
        files: How many files and symlinks were written.
        size: Their bytes.
        refused: What was not written, relative to the source: special files, symlinks and names that lead
            out of it, and what is in the place of a directory, or the other way round. The first 10,000.
    """

    files: int
    size: int
    refused: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """What a path of a sandbox is.

    Attributes:
        path: As asked for; from ``list_dir``, below the directory that was asked for.
        kind: ``file``, ``directory``, ``symlink`` or ``other``.
        size: In bytes.
        mode: Permission bits.
        mtime: Seconds since the epoch.
        link: Where a symlink leads, as it says.
    """

    path: str
    kind: FileKind
    size: int
    mode: int
    mtime: float
    link: str | None = None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]
