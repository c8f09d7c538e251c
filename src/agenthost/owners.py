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

from agenthost.forked import after_fork
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
    # Names and ids of what it made or took, and has not ended.
    left: set[str] = field(default_factory=set[str])


What = Literal["owned", "handed_on", "ended"]


@dataclass(frozen=True, slots=True)
class Note:
    """What an owner has noted last of a sandbox, and when (seconds since the epoch).

    Attributes:
        what: What the sandbox is to the owner.
        at: When it was noted.
        boot: The same moment as ``boot_moment`` told it, where that was noted.
    """

    what: What
    at: float
    boot: tuple[str, float] | None = None

    def now(self) -> float:
        """Return what the wall clock would show now if it had not been set since the note."""
        here = boot_moment()
        if self.boot is None or here is None or here[0] != self.boot[0]:
            return time.time()
        return self.at + here[1] - self.boot[1]


@dataclass(frozen=True, slots=True)
class OwnerRecord:
    """What an owner has noted.

    Attributes:
        id: As in the label of its sandboxes.
        alive: Whether its process lives.
        notes: By provider and the id of the sandbox there.
    """

    id: str
    alive: bool
    notes: dict[tuple[str, str], Note] = field(default_factory=dict[tuple[str, str], Note])


_lock = threading.Lock()
_mine: _Mine | None = None


def _forget() -> None:
    """Leave the record to the parent: its lock lives as long as the last copy of the descriptor is open."""
    global _lock, _mine
    _lock = threading.Lock()
    if _mine is not None:
        os.close(_mine.fd)
        _mine = None


after_fork(_forget)


def boot_moment() -> tuple[str, float] | None:
    """Return the machine's boot and the seconds since then, a clock that is never set; None without one."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return boot, time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, AttributeError):
        return None


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


def note(what: What, provider: str, sandbox_id: str) -> None:
    """Note what a sandbox is to this process from now on."""
    said = {
        "provider": provider,
        "sandbox": sandbox_id,
        "is": what,
        "at": time.time(),
        "boot": boot_moment(),
    }
    # It begins with a new line: what a full disk has cut short must not take this one with it.
    line = f"\n{json.dumps(said)}\n".encode()
    with _lock:
        try:
            record = _record()
            os.write(record.fd, line)
        except OSError as error:
            _log.warning("it could not be recorded that sandbox %s is %s: %s", sandbox_id, what, error)
            return
        _count(record, sandbox_id, ended=what == "ended")


def note_made(name: str) -> None:
    """Keep this process's record while a sandbox of this name may be there: its label names the owner."""
    with _lock:
        if _mine is not None:
            _count(_mine, name, ended=False)


def note_gone(*names: str) -> None:
    """No sandbox of these names is there any more."""
    with _lock:
        if _mine is not None:
            for name in names:
                _count(_mine, name, ended=True)


def _count(record: _Mine, sandbox: str, *, ended: bool) -> None:
    if ended:
        record.left.discard(sandbox)
    else:
        record.left.add(sandbox)


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
    # Tests change the directory.
    if _mine is None or _mine.directory != directory:
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
        lines = file.read(_LONGEST).splitlines()
    for line in lines:
        # What is being written now may lack its end; what a killed process wrote, or a full disk cut, too.
        with suppress(ValueError, KeyError, TypeError):
            told = json.loads(line)
            place = (str(told["provider"]), str(told["sandbox"]))
            boot = told.get("boot")
            moment = (str(boot[0]), float(boot[1])) if boot else None
            record.notes[place] = Note(told["is"], float(told["at"]), moment)
