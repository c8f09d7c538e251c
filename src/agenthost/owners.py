"""Who owns which sandbox, on this machine: a record for each process that makes or takes over sandboxes.

A record is a file in the state directory that its process holds locked. The kernel lets the lock go when the
process ends, however that comes: a record that can be locked is a dead owner's. What a process has handed on
to whoever has its ref is nobody's to reap: it ends by its own end.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import logging
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from agenthost.statedir import state_directory

OWNER_LABEL = "agenthost-owner"
CREATED_LABEL = "agenthost-created"  # whole seconds since the epoch
END_LABEL = "agenthost-end"

UNRECORDED = "unrecorded"

_log = logging.getLogger("agenthost.owners")

_SUFFIX = ".owner"
_KEPT = 30 * 24 * 3600.0  # seconds; no provider of ours lets a sandbox live so long
_LONGEST = 16 * 1024 * 1024  # bytes of a record that are read


@dataclass(slots=True)
class _Mine:
    """This process's record."""

    id: str
    pid: int
    directory: Path
    fd: int
    left: set[str] = field(default_factory=set[str])  # what it has noted and what has not ended


@dataclass(frozen=True, slots=True)
class OwnerRecord:
    """What an owner has noted.

    Attributes:
        id: As in the label of its sandboxes.
        alive: Whether its process lives.
        owned: Names and ids of sandboxes that it made or took over, and has not ended or handed on.
        handed_on: Those that it left to whoever has the ref.
    """

    id: str
    alive: bool
    owned: set[str] = field(default_factory=set[str])
    handed_on: set[str] = field(default_factory=set[str])


_lock = threading.Lock()
_mine: _Mine | None = None


def owner_id() -> str:
    """Return this process's id as an owner; its record is there from then on.

    Where the state directory cannot be written there is none: what it makes then has only its own end.
    """
    with _lock:
        try:
            return _record().id
        except OSError as error:
            _log.warning("no record of what this process owns can be kept: %s", error)
            return UNRECORDED


def note(what: Literal["owned", "handed_on", "ended"], *sandbox: str) -> None:
    """Note what a sandbox is to this process. It is called by its name, its id, or both."""
    lines = "".join(json.dumps({"sandbox": one, "is": what}) + "\n" for one in sorted(set(sandbox)))
    with _lock:
        try:
            record = _record()
            os.write(record.fd, lines.encode())
        except OSError as error:
            _log.warning("it could not be recorded that sandbox %s is %s: %s", sandbox[0], what, error)
            return
        if what == "ended":
            record.left.difference_update(sandbox)
        else:
            record.left.update(sandbox)


def read_owners() -> Iterator[OwnerRecord]:
    """Yield the records of this machine and user."""
    for path in sorted(_directory().glob(f"*{_SUFFIX}")):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # removed meanwhile
        try:
            record = OwnerRecord(path.name.removesuffix(_SUFFIX), _is_locked(fd))
            _read(fd, record)
            yield record
        finally:
            os.close(fd)


def forget_old_owners() -> None:
    """Remove the records of owners that have long been dead: their sandboxes have ended by themselves."""
    for path in _directory().glob(f"*{_SUFFIX}"):
        with suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if time.time() - os.fstat(fd).st_mtime > _KEPT and not _is_locked(fd):
                    path.unlink(missing_ok=True)
            finally:
                os.close(fd)


def _directory() -> Path:
    return state_directory() / "owners"


def _record() -> _Mine:
    global _mine
    directory = _directory()
    # A fork is a process of its own; and tests change the directory.
    if _mine is None or _mine.pid != os.getpid() or _mine.directory != directory:
        _mine = _make(directory)
    return _mine


def _make(directory: Path) -> _Mine:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = f"{os.getpid()}-{secrets.token_hex(6)}"
    fd, temporary = tempfile.mkstemp(dir=directory)
    try:
        # Locked before it has its name: nobody may take it for a dead one's.
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.rename(temporary, directory / f"{owner}{_SUFFIX}")
    except BaseException:
        os.close(fd)
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    atexit.register(_tidy, mine := _Mine(owner, os.getpid(), directory, fd))
    return mine


def _tidy(mine: _Mine) -> None:
    """Program end: a record of what has all ended is of no use."""
    if mine.pid == os.getpid() and not mine.left:
        (mine.directory / f"{mine.id}{_SUFFIX}").unlink(missing_ok=True)


def _is_locked(fd: int) -> bool:
    try:
        # Shared: two who look at once must not take each other for the owner.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _read(fd: int, record: OwnerRecord) -> None:
    with open(os.dup(fd), "rb") as file:
        # What is being written now may lack its end; what a killed process wrote, too.
        lines = file.read(_LONGEST).rpartition(b"\n")[0].splitlines()
    for line in lines:
        told = json.loads(line)
        record.owned.discard(told["sandbox"])
        record.handed_on.discard(told["sandbox"])
        if told["is"] == "owned":
            record.owned.add(told["sandbox"])
        elif told["is"] == "handed_on":
            record.handed_on.add(told["sandbox"])
