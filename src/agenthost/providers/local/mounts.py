"""The table of mounts, and where a directory lies on its file system.

A directory is told from every other by the device of its file system and its whole path from that file
system's root: two directories that exist have never both in common. The path below ``/proc/PID/root`` would
lead to the inode as well, but the guest is undumpable: where the host is not root, that path is closed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

_ESCAPED = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountedAt:
    """A line of ``/proc/PID/mountinfo``.

    Attributes:
        number: The kernel's id of the mount.
        device: ``major:minor``.
        root: Path of what is mounted, from the file system's own root.
        point: Where it is mounted.
    """

    number: int
    device: bytes
    root: bytes
    point: bytes


def parse(table: bytes) -> Iterator[MountedAt]:
    """Yield the mounts of a table; a line that is cut off is left out."""
    for line in table.split(b"\n"):
        fields = line.split(b" ", 5)
        if len(fields) == 6:
            yield MountedAt(int(fields[0]), fields[2], _plain(fields[3]), _plain(fields[4]))


def place_of(directory: str) -> tuple[bytes, bytes]:
    """Return the device of a directory's file system, and the directory's path from its root.

    Raises:
        OSError: The directory does not exist, or its mount is hidden from this process.
    """
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path = os.fsencode(os.readlink(f"/proc/self/fd/{handle}"))
        with open(f"/proc/self/fdinfo/{handle}", "rb") as file:
            number = next(int(line.split()[1]) for line in file if line.startswith(b"mnt_id:"))
    finally:
        os.close(handle)
    with open("/proc/self/mountinfo", "rb") as file:
        mount = next((one for one in parse(file.read()) if one.number == number), None)
    if mount is None:
        raise FileNotFoundError(f"the mount of {directory} is not in the table of this process")
    below = path[len(mount.point.rstrip(b"/")) :]
    return mount.device, mount.root.rstrip(b"/") + below


def _plain(path: bytes) -> bytes:
    """Undo how the kernel writes spaces, tabs, line feeds and backslashes."""
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), path)
