"""Where local sandboxes are written down, and reading it back.

One directory per sandbox, under ``STATE/PROVIDER/NAME``. Whether it lives is told by a lock on its ``lock``
file that its keeper holds; a process id is only believed while that lock is held.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from agenthost.errors import ConfigError
from agenthost.providers.local.keeper.removal import ENDED

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
_LARGEST_STATE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A state file, checked. Times are seconds since the epoch."""

    keeper: int
    name: str
    provider: str
    # "sandbox", or "probe": a short-lived trial of the isolation, never listed.
    kind: str
    labels: Mapping[str, str]
    created_at: float
    expires_at: float
    workdir: str
    isolation: str
    resources: Mapping[str, str]
    cgroups: tuple[str, ...]
    # Inode of the listening socket.
    socket: int
    # The end on the clock of ``leases``, which nobody sets; None in a file of an older version.
    lives_until: float | None = None


def provider_directory(root: str, provider: str) -> str:
    """Make the directory of one provider's sandboxes, 0700, and return it.

    Raises:
        ConfigError: It cannot be made, or another user could change it.
    """
    path = os.path.join(root, provider)
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        os.makedirs(path, mode=0o700, exist_ok=True)
        info = os.stat(path, follow_symlinks=False)
    except OSError as error:
        raise ConfigError(
            f"cannot use {path} for the state of sandboxes ({error.strerror}); "
            "set AGENTHOST_STATE_DIR to a directory of yours"
        ) from error
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        raise ConfigError(f"{path} is not a directory of this user; set AGENTHOST_STATE_DIR to another place")
    if info.st_mode & 0o077:
        os.chmod(path, 0o700)
    return path


def is_alive(directory: str) -> bool:
    """Tell whether a keeper holds this sandbox."""
    fd = _open_lock(directory)
    if fd is None:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def claim(directory: str) -> int | None:
    """Take over a sandbox that nobody holds. Returns the open lock, None when somebody holds it."""
    fd = _open_lock(directory)
    if fd is None:
        # Made but not yet locked, or a lock file that somebody removed.
        try:
            fd = os.open(directory + "/lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def read_record(directory: str) -> Record | None:
    """Return the state file's content. None: missing, truncated or not one of ours."""
    try:
        fd = os.open(directory + "/state.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    with open(fd, "rb") as file:
        raw = file.read(_LARGEST_STATE + 1)
    if len(raw) > _LARGEST_STATE:
        return None
    try:
        record = record_of(json.loads(raw))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    # 1 and below are no keeper: a signal to them would reach everybody.
    plausible = record.name == os.path.basename(directory) and 1 < record.keeper < 1 << 31
    return record if plausible else None


def record_of(value: object) -> Record:
    """Return a state file's content, checked. Raises TypeError or KeyError."""
    fields = _mapping(value)
    return Record(
        keeper=_whole(fields["keeper"]),
        name=_text(fields["name"]),
        provider=_text(fields["provider"]),
        kind=_text(fields["kind"]),
        labels=_texts(_mapping(fields["labels"])),
        created_at=_number(fields["created_at"]),
        expires_at=_number(fields["expires_at"]),
        workdir=_text(fields["workdir"]),
        isolation=_text(fields["isolation"]),
        resources=_texts(_mapping(fields["resources"])),
        socket=_whole(fields["socket"]),
        cgroups=tuple(_text(item) for item in _list(fields["cgroups"])),
        lives_until=None if fields.get("lives_until") is None else _number(fields["lives_until"]),
    )


def entries(directory: str) -> Iterator[str]:
    """Yield the directory of every sandbox below a provider's directory, living or not."""
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if _NAME.match(name) and os.path.isdir(path) and not os.path.islink(path):
            yield path


def ended_entries(directory: str, name: str | None = None) -> list[str]:
    """Return the directories of sandboxes that have ended, of which nothing is left but files.

    Args:
        directory: The provider's.
        name: Of one sandbox; None is all.
    """
    begin = ENDED if name is None else f"{ENDED}{name}."
    return [os.path.join(directory, found) for found in os.listdir(directory) if found.startswith(begin)]


def entry(directory: str, name: str) -> str | None:
    """Return where a sandbox of this name is or would be. None: no sandbox has such a name."""
    return os.path.join(directory, name) if _NAME.match(name) else None


def _open_lock(directory: str) -> int | None:
    try:
        return os.open(directory + "/lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(value: Mapping[str, object]) -> dict[str, str]:
    return {key: _text(item) for key, item in value.items()}


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError
    return {_text(key): item for key, item in cast("dict[object, object]", value).items()}


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError
    return cast("list[object]", value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value
