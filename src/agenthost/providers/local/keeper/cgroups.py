"""Make control groups, enter them and remove them."""

from __future__ import annotations

import errno
import os
import time

_REMOVE_SECONDS = 2.0
_STEP = 0.01


def make(groups: list[tuple[str, list[tuple[str, str]]]]) -> None:
    """Make each group and write its values, in order.

    Raises:
        OSError: The kernel refused; what was made is still there for ``remove``.
    """
    for directory, values in groups:
        os.mkdir(directory, 0o755)
        for name, value in values:
            _write(f"{directory}/{name}", value)


def enter(directories: list[str]) -> None:
    """Move the calling process into each group. Its children start there."""
    for directory in directories:
        _write(f"{directory}/cgroup.procs", "0")


def remove(directories: list[str]) -> None:
    """Remove groups whose processes have ended; a missing one is fine.

    Raises:
        OSError: Some process is still in there after two seconds.
    """
    deadline = time.monotonic() + _REMOVE_SECONDS
    for directory in directories:
        if os.path.exists(f"{directory}/cgroup.kill"):
            _write(f"{directory}/cgroup.kill", "1")
        # A process that was killed leaves its group a moment later.
        while not _removed(directory, last_try=time.monotonic() > deadline):
            time.sleep(_STEP)


def oom_kills(directories: list[str]) -> int:
    """Return how many processes of these groups the kernel has killed because their memory was used up."""
    for directory in directories:
        for name in ("memory.events", "memory.oom_control"):
            try:
                with open(f"{directory}/{name}", "rb") as file:
                    counts = dict(line.split() for line in file)
                    return int(counts.get(b"oom_kill", 0))
            except OSError:
                continue  # another controller's group, of another version, or gone
    return 0


def _removed(directory: str, *, last_try: bool) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY or last_try:
            raise
        return False
    return True


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
