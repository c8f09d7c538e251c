"""The file by which a host tells a sandbox's keeper that the sandbox is still wanted.

It holds a moment on the clock that also runs while the machine sleeps, which host and keeper share.
"""

from __future__ import annotations

import os
import secrets
import time

_NAME = "lease"


def boot_seconds() -> float:
    """Return the moment on the clock that runs while the machine sleeps, and that nobody can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write_lease(directory: str, seconds: float) -> None:
    """Lease a sandbox until so many seconds from now. FileNotFoundError when it has ended."""
    path = f"{directory}/{_NAME}.{secrets.token_hex(4)}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="ascii") as file:
        file.write(repr(boot_seconds() + seconds))
    os.replace(path, f"{directory}/{_NAME}")


def leased_for(directory: str) -> float | None:
    """Return for how many seconds a sandbox is leased from now on; None when it has no lease."""
    try:
        with open(f"{directory}/{_NAME}", encoding="ascii") as file:
            return float(file.read()) - boot_seconds()
    except (FileNotFoundError, ValueError):
        return None
