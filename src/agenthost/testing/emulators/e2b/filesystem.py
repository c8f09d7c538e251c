"""What E2B's daemon does with files beyond reading and writing them."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from typing import Any

from agenthost.testing.emulators.e2b.boxes import HOME, E2BBox
from agenthost.testing.emulators.e2b.connect import RpcError

CALLS = ("Stat", "MakeDir", "Move", "ListDir", "Remove")
_DEEPEST = 1000  # folders below one another that are listed

# Runs inside, as the user: a call and its body come as arguments.
_INSIDE = r"""
import datetime, grp, json, os, pwd, shutil, stat, sys

class Refused(Exception):
    pass

def named(read, number):
    try:
        return read(number)[0]
    except KeyError:
        return str(number)

def entry(path):
    told = target = os.lstat(path)
    link = stat.S_ISLNK(told.st_mode)
    if link:  # its type and its mode are those of what it leads to
        target = os.stat(path) if os.path.exists(path) else None
    mode = target.st_mode if target else 0
    kind = "DIRECTORY" if stat.S_ISDIR(mode) else "FILE" if stat.S_ISREG(mode) else "UNSPECIFIED"
    at = datetime.datetime.fromtimestamp(told.st_mtime, datetime.timezone.utc)
    found = {
        "name": os.path.basename(path), "type": "FILE_TYPE_" + kind, "path": path,
        "size": str(told.st_size), "mode": stat.S_IMODE(mode),
        "permissions": stat.filemode(told.st_mode),
        "owner": named(pwd.getpwuid, told.st_uid), "group": named(grp.getgrgid, told.st_gid),
        "modifiedTime": at.isoformat().replace("+00:00", "Z"),
    }
    if link:
        found["symlinkTarget"] = os.path.realpath(path) if target else path
    if target and (metadata := attributes(path)):
        found["metadata"] = metadata
    return found

PREFIX = "user.e2b."

def attributes(path):
    try:
        names = [name for name in os.listxattr(path) if name.startswith(PREFIX)]
    except OSError:  # the file system has none
        return {}
    return {name[len(PREFIX):]: os.getxattr(path, name).decode() for name in names}

def put_attributes(path, metadata):
    for name in attributes(path):
        os.removexattr(path, PREFIX + name)
    for name, value in metadata.items():
        os.setxattr(path, PREFIX + name, value.encode())

def listed(path, depth):
    for name in sorted(os.listdir(path)):
        below = os.path.join(path, name)
        if not os.path.exists(below):
            continue  # a link that leads nowhere
        yield entry(below)
        if depth > 1 and os.path.isdir(below) and not os.path.islink(below):
            yield from listed(below, depth - 1)

def do(call, body):
    if call == "Move":
        os.makedirs(os.path.dirname(body["destination"]), exist_ok=True)
        os.rename(body["source"], body["destination"])
        return {"entry": entry(body["destination"])}
    path = body["path"]
    if call == "metadata":
        put_attributes(path, body["metadata"])
        return {}
    if call == "Stat":
        return {"entry": entry(path)}
    if call == "MakeDir":
        if os.path.isdir(path):
            raise Refused("already_exists", "directory already exists: " + path)
        os.makedirs(path)
        return {"entry": entry(path)}
    if call == "ListDir":
        return {"entries": list(listed(path, body["depth"]))}
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
    return {}

try:
    said = do(sys.argv[1], json.loads(sys.argv[2]))
except Refused as refused:
    said = {"code": refused.args[0], "message": refused.args[1]}
except FileNotFoundError as error:
    said = {"code": "not_found", "message": str(error)}
except (NotADirectoryError, FileExistsError) as error:
    said = {"code": "invalid_argument", "message": str(error)}
except PermissionError as error:
    said = {"code": "permission_denied", "message": str(error)}
except OSError as error:
    said = {"code": "internal", "message": str(error)}
print(json.dumps(said))
"""


async def call(box: E2BBox, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """Do what a call says, and return its answer.

    Raises:
        RpcError: It could not be done, or this emulator does not do it.
    """
    if name not in CALLS:
        raise RpcError("unimplemented", f"this emulator has no call {name}")
    asked: dict[str, Any] = {key: place(str(body.get(key, ""))) for key in ("path", "source", "destination")}
    asked["depth"] = min(int(body.get("depth") or 1), _DEEPEST)
    return await _inside(box, name, asked)


async def put_metadata(box: E2BBox, path: str, metadata: Mapping[str, str]) -> None:
    """Replace what a file has of metadata. Raises RpcError: the machine's file system keeps none."""
    if metadata:  # a file that was just written has none
        await _inside(box, "metadata", {"path": path, "metadata": metadata})


async def _inside(box: E2BBox, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    done = await box.machine.sandbox.exec(["python3", "-I", "-c", _INSIDE, name, json.dumps(asked)])
    if done.exit_code != 0:
        raise RpcError("internal", done.stderr.decode(errors="replace"))
    told: dict[str, Any] = json.loads(done.stdout)
    if "code" in told:
        raise RpcError(told["code"], told["message"])
    return told


def place(path: str) -> str:
    """Return the absolute path that a client means."""
    if path == "~" or path.startswith("~/"):
        path = path[2:]
    return posixpath.normpath(posixpath.join(HOME, path))
