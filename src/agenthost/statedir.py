"""Where agenthost keeps what must outlive a process."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from agenthost.errors import ConfigError


def state_directory() -> Path:
    """Return ``AGENTHOST_STATE_DIR``, else ``agenthost`` in ``XDG_STATE_HOME`` or ``~/.local/state``.

    Raises:
        ConfigError: None of these is set, and this user has no home directory.
    """
    named = os.environ.get("AGENTHOST_STATE_DIR")
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_STATE_HOME")
    if base:
        return Path(base) / "agenthost"
    try:
        return Path.home() / ".local" / "state" / "agenthost"
    except RuntimeError:
        raise ConfigError(
            "this user has no home directory to keep state in: set AGENTHOST_STATE_DIR to a directory"
        ) from None


_others: set[str] = set()


def note_state_directory(path: str) -> None:
    """Note a directory that a provider of this process keeps its state in."""
    _others.add(path)


def state_inodes() -> frozenset[tuple[int, int]]:
    """Return device and inode of each state directory of this process that is there."""
    found: set[tuple[int, int]] = set()
    for path in (os.fspath(state_directory()), *_others):
        with suppress(OSError):
            status = os.stat(path)
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)
