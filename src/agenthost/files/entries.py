"""One path of a sandbox: what it is, what is in it, and away with it."""

from __future__ import annotations

from typing import Any

from agenthost.errors import SandboxError
from agenthost.files.program import ask, fields_of, items_of
from agenthost.files.values import FileInfo
from agenthost.sandbox import Sandbox
from agenthost.spec import check_text


async def stat(sandbox: Sandbox, path: str, *, follow_symlinks: bool = True) -> FileInfo:
    """Return what a path is.

    Args:
        sandbox: Any.
        path: Relative ones start at its working directory and must not leave it.
        follow_symlinks: False tells of a symlink itself.

    Raises:
        OSError: FileNotFoundError, NotADirectoryError, PermissionError ... with the path.
    """
    return _info(await ask(sandbox, _call("stat", path, follow=follow_symlinks)))


async def exists(sandbox: Sandbox, path: str, *, follow_symlinks: bool = True) -> bool:
    """Return whether a path is there; with ``follow_symlinks``, what it leads to.

    Raises:
        OSError: It cannot be told; PermissionError for what is in a closed directory.
    """
    try:
        await stat(sandbox, path, follow_symlinks=follow_symlinks)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


async def list_dir(sandbox: Sandbox, path: str = ".") -> list[FileInfo]:
    """Return what is in a directory, sorted by name; symlinks are told of as such.

    Raises:
        OSError: FileNotFoundError, NotADirectoryError, PermissionError ... with the path.
        SandboxError: There are too many entries, some 120,000, or the answer is above 64 MiB.
    """
    return [_info(one) for one in items_of(await ask(sandbox, _call("list", path)))]


async def remove(sandbox: Sandbox, path: str, *, recursive: bool = False, missing_ok: bool = False) -> None:
    """Remove a file, a symlink (not what it leads to) or a directory.

    Cancelled, it may have removed a part of a directory.

    Args:
        sandbox: Any.
        path: Relative ones start at its working directory and must not leave it.
        recursive: A directory with all that is in it; no symlink is followed.
        missing_ok: A path that is not there is no error.

    Raises:
        OSError: FileNotFoundError, PermissionError ... with the path; ``errno.ENOTEMPTY`` for a directory
            that is not empty, without ``recursive``.
    """
    try:
        await ask(sandbox, _call("remove", path, follow=False, recursive=recursive))
    except FileNotFoundError:
        if not missing_ok:
            raise


def _call(what: str, path: str, **more: Any) -> dict[str, Any]:
    check_text("path", path)
    return {"do": what, "path": path, **more}


def _info(value: object) -> FileInfo:
    match fields_of(value):
        case {
            "path": str(path),
            "kind": ("file" | "directory" | "symlink" | "other") as kind,
            "size": int(size),
            "mode": int(mode),
            "mtime": int() | float() as mtime,
            "link": str() | None as link,
        }:
            return FileInfo(path=path, kind=kind, size=size, mode=mode, mtime=float(mtime), link=link)
        case other:
            raise SandboxError(f"the sandbox answers {other!r:.100} where a path is told of")
