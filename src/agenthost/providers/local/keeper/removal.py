"""Remove a directory that a hostile program has filled.

``shutil.rmtree`` recurses: some hundred nested directories end it. Here every directory found is moved up
beside its ancestors first, so that neither depth nor path length nor open files grow.
"""

from __future__ import annotations

import errno
import os
import stat

ENDED = ".ended-"  # what the names begin with of directories that are only to be removed


def take_away(directory: str) -> str:
    """Rename the directory of a sandbox that has ended, so that its name is free. Return where it is now."""
    parent, name = os.path.split(directory)
    gone = f"{parent}/{ENDED}{name}.{os.urandom(8).hex()}"
    os.rename(directory, gone)
    return gone


def remove_all(directory: str) -> None:
    """Remove the directory of a sandbox. The lock goes last: whoever comes in between finds it taken.

    Raises:
        OSError: Something could not be removed; the rest was.
    """
    remove_contents(directory, keep=("state.json", "lock"))
    remove_contents(directory, keep=("lock",))
    os.unlink(directory + "/lock")
    os.rmdir(directory)


def remove_contents(directory: str, keep: tuple[str, ...] = ()) -> None:
    """Remove all that is in ``directory`` except the names in ``keep``. Symlinks are not followed.

    Raises:
        OSError: Something could not be removed; the rest was.
    """
    base = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    # A fresh prefix: names in the directory could otherwise be in the way, by intent.
    prefix = ".gone-" + os.urandom(8).hex() + "-"
    moved: list[str] = []
    first_error: OSError | None = None
    count = 0
    pending = [""]
    try:
        while pending:
            current = pending.pop()
            source = base if current == "" else _open_directory(base, current)
            try:
                for name in os.listdir(source):
                    if current == "" and name in keep:
                        continue
                    try:
                        if _unlink(source, name):
                            continue
                        count += 1
                        moved.append(prefix + str(count))
                        os.rename(name, moved[-1], src_dir_fd=source, dst_dir_fd=base)
                        pending.append(moved[-1])
                    except FileNotFoundError:
                        continue
                    except OSError as error:
                        first_error = first_error or error
            finally:
                if source != base:
                    os.close(source)
        for name in reversed(moved):
            first_error = _remove_emptied(base, name) or first_error
    finally:
        os.close(base)
    if first_error is not None:
        raise first_error


def _unlink(parent: int, name: str) -> bool:
    """Remove a file or an empty directory. False: a directory with something in it, now ours to move."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=parent)
        return True
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    else:
        return True
    # Its owner may have taken away its own rights. A move needs to write into it, for its "..".
    os.chmod(name, 0o700, dir_fd=parent)
    return False


def _remove_emptied(base: int, name: str) -> OSError | None:
    try:
        os.rmdir(name, dir_fd=base)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error
    return None


def _open_directory(base: int, name: str) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=base)
