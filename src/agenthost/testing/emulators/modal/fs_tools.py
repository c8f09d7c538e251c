"""What stands in for Modal's program for files inside a sandbox, which ``sandbox.filesystem`` starts."""

from __future__ import annotations

from collections.abc import Sequence

_PATH = "/__modal/.bin/modal-sandbox-fs-tools"

# Runs inside: the command is its argument, contents are its stdin and stdout, an error is JSON on stderr.
_INSIDE = r"""
import errno, grp, json, os, pwd, shutil, stat, sys

KINDS = {
    errno.ENOENT: "NotFound", errno.EISDIR: "IsDirectory", errno.ENOTDIR: "NotDirectory",
    errno.EEXIST: "PathAlreadyExists", errno.ENOTEMPTY: "DirectoryNotEmpty",
    errno.EACCES: "PermissionDenied", errno.EPERM: "PermissionDenied", errno.EROFS: "PermissionDenied",
}

def named(read, number):
    try:
        return read(number)[0]
    except KeyError:
        return str(number)

def entry(path):
    told = os.lstat(path)
    is_link = stat.S_ISLNK(told.st_mode)
    return {
        "name": os.path.basename(path), "path": path, "size": told.st_size,
        "type": "symlink" if is_link else "directory" if stat.S_ISDIR(told.st_mode) else "file",
        "mode": stat.S_IMODE(told.st_mode), "permissions": stat.filemode(told.st_mode)[1:],
        "owner": named(pwd.getpwuid, told.st_uid), "group": named(grp.getgrgid, told.st_gid),
        "modified_time": told.st_mtime, "symlink_target": os.readlink(path) if is_link else None,
    }

def refuse(kind, message):
    sys.stderr.write(json.dumps({"error_kind": kind, "message": message}))
    sys.exit(1)

def do(name, path, asked):
    if name == "WriteFile":
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    elif name == "ReadFile":
        with open(path, "rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    elif name == "ListFiles":
        print(json.dumps([entry(os.path.join(path, one)) for one in sorted(os.listdir(path))]))
    elif name == "Stat":
        print(json.dumps(entry(path)))
    elif name == "MakeDirectory":
        os.makedirs(path, exist_ok=True) if asked["parents"] else os.mkdir(path)
    elif name == "Remove" and os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path) if asked["recursive"] else os.rmdir(path)
    elif name == "Remove":
        os.unlink(path)
    else:
        refuse("NotImplemented", f"this emulator does not do {name}")

((name, asked),) = json.loads(sys.argv[1]).items()
try:
    do(name, asked["path"], asked)
except OSError as error:
    refuse(KINDS.get(error.errno, "Other"), error.strerror or "failed")
"""


def replaced(argv: Sequence[str]) -> list[str]:
    """Return a command line, in which Modal's program is the stand-in."""
    return ["python3", "-I", "-c", _INSIDE, *argv[1:]] if argv and argv[0] == _PATH else list(argv)
