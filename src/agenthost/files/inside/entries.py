"""One path at a time: what it is, what is in it, and away with it."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from typing import Any

from agenthost.files.inside.packing import named

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


def resolve(path: str, workdir: str, *, follow: bool) -> str:
    """Return the absolute path. A relative one must not leave ``workdir``, also not by a symlink.

    Without ``follow`` the last part may be a symlink to anywhere: it is meant itself.

    Raises:
        PermissionError: It leaves the workdir.
    """
    if os.path.isabs(path):
        return path
    full = os.path.normpath(os.path.join(workdir, path))
    root = os.path.realpath(workdir)
    real = os.path.realpath(full if follow or full == root else os.path.dirname(full))
    if real != root and not real.startswith(root.rstrip("/") + "/"):
        raise PermissionError(errno.EACCES, "a relative path leads out of the working directory", path)
    return full


def look(path: str, shown: str, *, follow: bool) -> dict[str, Any]:
    """Return what a path is."""
    with named(shown):
        status = os.stat(path, follow_symlinks=follow)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "other")
        return {
            "path": shown,
            "kind": kind,
            "size": status.st_size,
            "mode": stat.S_IMODE(status.st_mode),
            "mtime": status.st_mtime,
            "link": os.readlink(path) if kind == "symlink" else None,
        }


def look_into(path: str, shown: str) -> list[dict[str, Any]]:
    """Return what is in a directory, sorted by name."""
    with named(shown):
        names = sorted(os.listdir(path))
    above = "" if shown == "." else shown
    found = (_look_at(os.path.join(path, name), os.path.join(above, name)) for name in names)
    return [one for one in found if one is not None]


def _look_at(path: str, shown: str) -> dict[str, Any] | None:
    try:
        return look(path, shown, follow=False)
    except FileNotFoundError:
        return None  # it was removed since its directory was read


def remove(path: str, shown: str, *, recursive: bool) -> None:
    """Remove a file, a symlink or a directory. OSError ENOTEMPTY for one that is not empty."""
    with named(shown):
        if not stat.S_ISDIR(os.stat(path, follow_symlinks=False).st_mode):
            os.unlink(path)
        elif recursive:
            shutil.rmtree(path)
        else:
            os.rmdir(path)
