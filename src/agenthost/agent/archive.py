"""Directories as tar archives: packed without secrets, unpacked without leaving their directory."""

from __future__ import annotations

import fnmatch
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Self

from agenthost.errors import ConfigError, DownloadError

IGNORE_FILE = ".agenthostignore"

# How much is taken from a sandbox, which can send what it likes.
MAX_MEMBERS = 100_000
MAX_SIZE = 4 * 1024**3  # bytes
MAX_DEPTH = 64
MAX_HEADER = 1024**2  # bytes; a long name needs some thousand
_SHOWN = 200  # characters of a name in an error
# Headers that are read into memory as a whole: they tell more of the member that follows.
_ABOUT_THE_NEXT = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

# What commonly holds a secret, in any directory and in any case of its letters, and what means nothing on
# another machine. docs/how-it-works.md tells it.
DEFAULT_IGNORE = (
    ".env",
    ".env.*",
    ".envrc",
    # Private keys and key stores.
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.ppk",
    "*.jks",
    "*.kdbx",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "id_xmss*",
    ".ssh/",
    ".gnupg/",
    # git: a remote's address may hold a token.
    "**/.git/config",
    "**/.git/config.worktree",
    "**/.git/worktrees/*/config.worktree",
    "**/.git/modules/*/config",
    "**/.git/modules/*/config.worktree",
    "**/.git/credentials",
    "**/.config/git/credentials",
    "**/.config/gh/",
    ".git-credentials",
    ".gitconfig",
    ".gitcookies",
    # Clouds and containers.
    ".aws/",
    ".azure/",
    ".gcloud/",
    "**/.config/gcloud/",
    ".kube/",
    ".docker/",
    ".dockercfg",
    ".vault-token",
    # Terraform's state has every secret that it has made, in clear.
    "terraform.tfstate*",
    "*.tfstate",
    "*.tfstate.backup",
    ".terraformrc",
    ".terraform.d/",
    # Registries, databases and whatever else logs in.
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    "**/.cargo/credentials*",
    "credentials.json",
    ".credentials.json",
    "__pycache__/",
    ".venv/",
)
# Looks like a secret and is meant to be shared.
_NOT_SECRET = (".env.example", ".env.sample", ".env.template", ".env.dist")


class Ignore:
    """Patterns like those of a .gitignore: ``name``, ``*.ext``, ``dir/``, ``a/b``, ``**/a/b``, ``!keep``."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [p.strip() for p in patterns if p.strip() and not p.strip().startswith("#")]

    def matches(self, path: PurePosixPath, *, is_directory: bool) -> bool:
        """Return whether a path, relative to the directory, is left out. The last pattern that fits wins."""
        lower = PurePosixPath(str(path).lower())
        ignored = lower.name not in _NOT_SECRET and _any(DEFAULT_IGNORE, lower, is_directory)
        for pattern in self._patterns:
            keep = pattern.startswith("!")
            if _fits(pattern.removeprefix("!"), path, is_directory):
                ignored = not keep
        return ignored


def _any(patterns: Sequence[str], path: PurePosixPath, is_directory: bool) -> bool:
    return any(_fits(pattern, path, is_directory) for pattern in patterns)


def _fits(pattern: str, path: PurePosixPath, is_directory: bool) -> bool:
    if pattern.endswith("/") and not is_directory:
        return False
    pattern = pattern.rstrip("/")
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(f"/{path}", f"*{pattern[2:]}")
    if "/" in pattern:
        return fnmatch.fnmatchcase(str(path), pattern.lstrip("/"))
    return fnmatch.fnmatchcase(path.name, pattern)


@dataclass(slots=True)
class Packed:
    """What went into an archive, and what was left out."""

    files: int = 0
    size: int = 0
    ignored: list[str] = field(default_factory=list[str])


def pack(directory: Path, target: IO[bytes]) -> Packed:
    """Write a directory as a tar archive. Symlinks are kept as such, and left out where they lead outside.

    Raises:
        ConfigError: It is no directory.
    """
    if not directory.is_dir():
        raise ConfigError(f"workspace {str(directory)!r} is not a directory of this machine")
    root = directory.resolve()
    patterns: list[str] = []
    if (root / IGNORE_FILE).is_file():
        patterns = (root / IGNORE_FILE).read_text(encoding="utf-8").splitlines()
    packed = Packed()
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path in _walk(root, Ignore(patterns), packed):
            info = archive.gettarinfo(str(path), arcname=str(path.relative_to(root)))
            if info.islnk():  # the second name of a file: a file, too
                info.type, info.linkname, info.size = tarfile.REGTYPE, "", path.stat().st_size
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            if info.isreg():
                with path.open("rb") as file:
                    archive.addfile(info, file)
                packed.files += 1
                packed.size += info.size
            else:
                archive.addfile(info)
    return packed


def _walk(root: Path, ignore: Ignore, packed: Packed) -> Iterator[Path]:
    waiting = [root]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                path = Path(entry.path)
                relative = PurePosixPath(path.relative_to(root))
                is_directory = entry.is_dir(follow_symlinks=False)
                if ignore.matches(relative, is_directory=is_directory) or not _can_travel(path, root):
                    packed.ignored.append(str(relative))
                    continue
                yield path
                if is_directory:
                    waiting.append(path)


def _can_travel(path: Path, root: Path) -> bool:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        target = path.readlink()
        return _stays_inside(PurePosixPath(target), path, root)
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _stays_inside(target: PurePosixPath, link: Path, root: Path) -> bool:
    """Return whether a symlink leads to a place below ``root``, whatever other links are there.

    ``..`` is taken only at the beginning: behind a name, which may be a link itself, it leads anywhere.
    """
    names = list(target.parts)
    while names and names[0] == "..":
        names.pop(0)
    if target.is_absolute() or ".." in names:
        return False
    path = os.path.normpath(link.parent / target)
    return path == str(root) or path.startswith(f"{root}{os.sep}")


@dataclass(slots=True)
class Unpacked:
    """What came out of an archive, and what was refused."""

    files: int = 0
    size: int = 0
    refused: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackLimits:
    """How much is taken from a sandbox.

    Attributes:
        members: Files, directories and links together, also those that are refused.
        size: Bytes of all files together, holes of sparse files included: they need not be holes here.
        depth: Names in a path.
    """

    members: int = MAX_MEMBERS
    size: int = MAX_SIZE
    depth: int = MAX_DEPTH


class _Header(tarfile.TarInfo):
    """A header of an archive, refused where reading on would take whatever memory it asks for."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0:
            raise tarfile.ReadError(f"a header tells a size of {info.size}")
        if info.type in _ABOUT_THE_NEXT and info.size > MAX_HEADER:
            raise DownloadError(f"a header of {info.size} bytes, at most {MAX_HEADER} are accepted")
        return info


def unpack(source: IO[bytes], directory: Path, limits: UnpackLimits | None = None) -> Unpacked:
    """Unpack what a sandbox has packed, as a tar archive that is not compressed; nothing in it is trusted.

    Only files, directories and symlinks that stay below ``directory`` are made. Nothing is written through a
    symlink, of the archive or of the directory. Files that are there are replaced.

    Raises:
        DownloadError: It is no such archive, or more than the limits allow. What came before it is kept.
        OSError: It cannot be written here.
    """
    limits = limits or UnpackLimits()
    directory.mkdir(parents=True, exist_ok=True)
    root = directory.resolve()
    done = Unpacked()
    try:
        # A compressed one would let a few bytes ask for any amount of work.
        with tarfile.open(fileobj=source, mode="r|", tarinfo=_Header) as archive:
            total = 0
            for count, member in enumerate(archive, 1):
                total += member.size
                _check(member, count, total, limits)
                if not _unpack_one(archive, member, root, done):
                    done.refused.append(member.name)
    # RecursionError: one header about the next can follow another without an end.
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, DownloadError) as error:
        what = error if isinstance(error, DownloadError) else f"no readable tar archive ({error})"
        raise DownloadError(
            f"what the sandbox sent is not accepted: {what}. "
            f"{done.files} files were unpacked before; nothing was written outside of {directory}"
        ) from error
    return done


def _check(member: tarfile.TarInfo, count: int, total: int, limits: UnpackLimits) -> None:
    name = ascii(member.name[:_SHOWN])
    if count > limits.members:
        raise DownloadError(f"more than {limits.members} files and directories")
    if total > limits.size:
        raise DownloadError(f"more than {limits.size} bytes in all, with the {member.size} of {name}")
    depth = len(PurePosixPath(member.name).parts)
    if depth > limits.depth:
        raise DownloadError(f"a path of {depth} names, {name}, at most {limits.depth} are accepted")


def _unpack_one(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path, done: Unpacked) -> bool:
    parts = PurePosixPath(member.name).parts
    if not parts or member.name.startswith("/") or ".." in parts or "\0" in member.name + member.linkname:
        return member.isdir() and not parts  # "." itself is there already
    path = root.joinpath(*parts)
    parent = root
    for part in parts[:-1]:
        parent = parent / part
        if parent.is_symlink() or (parent.exists() and not parent.is_dir()):
            return False
    parent.mkdir(parents=True, exist_ok=True)
    if member.isdir():
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            return False
        path.mkdir(exist_ok=True)
        return True
    if path.is_dir() and not path.is_symlink():
        return False
    if member.issym():
        if not _stays_inside(PurePosixPath(member.linkname), path, root):
            return False
        path.unlink(missing_ok=True)
        path.symlink_to(member.linkname)
        done.files += 1
        return True
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        return False
    path.unlink(missing_ok=True)  # never through a symlink or into a hard link
    mode = 0o755 if member.mode & 0o100 else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
    os.utime(path, (member.mtime, member.mtime))
    done.files += 1
    done.size += member.size
    return True
