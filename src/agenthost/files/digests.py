"""Digests of the files in a directory of a sandbox, without bringing the files here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agenthost.errors import SandboxError
from agenthost.files.inside.digests import MOST_BYTES, MOST_FILES, MOST_SECONDS
from agenthost.files.program import ask, fields_of
from agenthost.sandbox import Sandbox

_LONGEST = 4096  # characters of a path: PATH_MAX of Linux
_TEXT = 2 * 1024 * 1024  # characters of all paths together
_DIGEST = 80  # characters of "link:" or "file:" and 64 hexadecimal digits, with room


@dataclass(frozen=True, slots=True)
class DirDigests:
    """What a directory held.

    Attributes:
        files: By path below the directory: ``file:`` or ``link:`` and a SHA-256, ``other``, or ``unread``.
        complete: Whether that is all: no bound was reached.
    """

    files: Mapping[str, str]
    complete: bool


async def digest_dir(sandbox: Sandbox, path: str) -> DirDigests:
    """Return the digests of all files below a directory. No symlink is followed.

    It ends early, and says so, at 10,000 files, 256 MiB or 5 seconds.

    Raises:
        OSError: The directory cannot be read.
        SandboxError: The answer is not one.
        UnsupportedError: The sandbox has no ``python3``.
    """
    bounds = [MOST_FILES, MOST_BYTES, MOST_SECONDS]
    answer = fields_of(await ask(sandbox, {"do": "digest", "path": path, "bounds": bounds}))
    files, complete = fields_of(answer.get("files")), answer.get("complete")
    if not isinstance(complete, bool):
        raise SandboxError("the sandbox answers with digests that have no end")
    return _checked(files, complete)


def _checked(files: Mapping[str, object], complete: bool) -> DirDigests:
    """Return what is not more than the bounds: the answer may be anything."""
    found: dict[str, str] = {}
    left = _TEXT
    for path, digest in files.items():
        left -= len(path)
        if len(found) >= MOST_FILES or left < 0:
            return DirDigests(found, complete=False)
        if isinstance(digest, str) and len(path) <= _LONGEST and len(digest) <= _DIGEST:
            found[path] = digest
        else:
            complete = False
    return DirDigests(found, complete)
