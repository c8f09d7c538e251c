"""The files by which a host tells a sandbox's keeper until when the sandbox is wanted.

``lease`` is renewed by a host that works; ``keep`` is written once, by a host that detached with
``keep_for``, and removed by the next one that drives an agent. Each holds a moment on the clock that also
runs while the machine sleeps, which host and keeper share. Neither is within the sandbox's reach.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time

_NAME, _KEEP = "lease", "keep"
# Seconds that the guest has to end by itself first, at the moment that it was given too.
_KEEP_GRACE = 5.0


def boot_seconds() -> float:
    """Return the moment on the clock that runs while the machine sleeps, and that nobody can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write_lease(directory: str, seconds: float) -> None:
    """Lease a sandbox until so many seconds from now. FileNotFoundError when it has ended."""
    _write(directory, _NAME, seconds)


def write_keep(directory: str, seconds: float | None) -> None:
    """Have a sandbox end so many seconds from now, None: not before its other ends.

    FileNotFoundError when it has ended.
    """
    if seconds is not None:
        _write(directory, _KEEP, seconds + _KEEP_GRACE)
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{directory}/{_KEEP}")


def _write(directory: str, name: str, seconds: float) -> None:
    path = f"{directory}/{name}.{secrets.token_hex(4)}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="ascii") as file:
        file.write(repr(boot_seconds() + seconds))
    os.replace(path, f"{directory}/{name}")


def leased_for(directory: str) -> float | None:
    """Return for how many seconds a sandbox is leased from now on; None when it has no lease."""
    try:
        with open(f"{directory}/{_NAME}", encoding="ascii") as file:
            return float(file.read()) - boot_seconds()
    except (FileNotFoundError, ValueError):
        return None
