"""The file of an audit log: records in sequence, appended under a lock, whole after any crash.

Each record has a number ``n``, from 1 without a gap. One that is derived from the journal has the place
``at`` behind its event, in bytes of the journal: a host that reads the journal again goes on behind the last
of them. The guest counts these bytes, so that no text of the agent can move the place.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from agenthost.agent.audit.digests import Masker
from agenthost.agent.audit.settings import log_path
from agenthost.errors import AgentError

LARGEST = 1024**3  # bytes of a log: an agent that asks for tools without end must not fill the host's disk
_LOCK_SECONDS = 2.0  # another host of the same agent holds the lock for less than a millisecond
_LOCK_AGAIN = 0.002  # seconds

Record = dict[str, Any]


class AuditLog:
    """One agent's log, open for writing.

    Attributes:
        path: The file.
        last: The place in the journal that was logged last.
        fresh: Whether the file holds nothing from before.
    """

    def __init__(
        self, path: Path, agent: str, *, masker: Masker, restore: Callable[[Record], None] = lambda _: None
    ) -> None:
        """Open the file, made if needed: the directory with mode 0700, the file with 0600.

        What a crash left of a record, or of the records of one event, is cut off: they are written again.

        Args:
            path: The file.
            agent: The agent's name.
            masker: Takes secrets out of every record.
            restore: Called with each record that is there.

        Raises:
            AgentError: It cannot be written.
        """
        self.path = path
        self.last = 0
        self._agent = agent
        self._masker = masker
        self._restore = restore
        self._number = 0
        self._size = 0
        self._fd = _open(path)
        self.fresh = self._write([])

    @classmethod
    def of(
        cls,
        agent: str,
        directory: str | os.PathLike[str] | None,
        *,
        masker: Masker,
        restore: Callable[[Record], None],
    ) -> AuditLog:
        """Open the log of an agent. One elsewhere is found from the state directory, by a link there."""
        path, known = log_path(agent, directory), log_path(agent)
        log = cls(path, agent, masker=masker, restore=restore)
        if path != known and not os.path.lexists(known):
            try:
                known.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                known.symlink_to(path)
            except OSError as error:
                log.close()
                raise _failure(known, error) from error
        return log

    def append(self, records: Sequence[Record]) -> None:
        """Append records, all of them or none; those of the journal only where they are not there yet.

        Raises:
            AgentError: They cannot be written. What they tell of must not go on.
        """
        self._write(records)

    def close(self) -> None:
        """Close the file. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _write(self, records: Sequence[Record]) -> bool:
        """Append under the lock. Returns whether the file was empty before."""
        if self._fd < 0:
            raise AgentError(f"the audit log {self.path} is closed")
        try:
            _lock(self._fd, self.path)
            try:
                size = os.fstat(self._fd).st_size
                if size != self._size:  # another host of this agent has written, or this one begins
                    self._size = size = self._catch_up(size)
                data = b"".join(self._lines(records))
                if size + len(data) > LARGEST:
                    raise AgentError(
                        f"the audit log {self.path} has {LARGEST >> 20} MiB, which is its limit: move the "
                        "file away, and the log begins anew"
                    )
                self._put(data, size)
                return size == 0
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        except OSError as error:
            raise _failure(self.path, error) from error

    def _put(self, data: bytes, size: int) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            os.ftruncate(self._fd, size)  # a full disk: none of them rather than a part
            raise
        self._size = size + len(data)

    def _lines(self, records: Sequence[Record]) -> Iterator[bytes]:
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="microseconds")
        for record in records:
            place = record.get("at")
            if place is not None and place <= self.last:
                continue  # the host before has written it
            self._number += 1
            record = {"n": self._number, "time": now, "agent": self._agent, **record}
            yield encode(self._masker.value(record))
        places = [record["at"] for record in records if record.get("at") is not None]
        self.last = max([self.last, *places])

    def _catch_up(self, size: int) -> int:
        """Read what is there, cut off what is not whole, and return the size."""
        end = 0
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(self._size if self._size <= size else 0)
            if file.tell() == 0:
                self._number = self.last = 0
            end = begun = file.tell()
            waiting: list[tuple[Record, int]] = []
            for line in file:
                record = _decode(line, self.path)
                if record is None:
                    break
                end += len(line)
                waiting.append((record, end))
                if record.get("part", 1) == record.get("parts", 1):  # all records of its event are here
                    begun = end
                    for one, _ in waiting:
                        self._take(one)
                    waiting = []
        if begun != size:
            os.ftruncate(self._fd, begun)
        return begun

    def _take(self, record: Record) -> None:
        self._number = record["n"]
        self.last = max(self.last, record.get("at", 0))
        self._restore(record)


def encode(record: Record) -> bytes:
    """Return a record as a line of ASCII: no text from inside can end it."""
    return json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n"


def read_log(path: Path) -> Iterator[Record]:
    """Yield the whole records of a log.

    Raises:
        OSError: It cannot be read.
        AgentError: A line is not a record.
    """
    with path.open("rb") as file:
        for line in file:
            record = _decode(line, path)
            if record is None:
                return
            yield record


def _decode(line: bytes, path: Path) -> Record | None:
    """Return the record of a line; None for what a crash left of one, at the end of the file.

    Raises:
        AgentError: It is a whole line and not a record: what follows it is not cut off.
    """
    if not line.endswith(b"\n"):
        return None
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    record = cast("Record", found) if isinstance(found, dict) else {}
    if not isinstance(record.get("n"), int):
        raise AgentError(f"{path} is not an audit log, or was changed: {line[:80]!r} is not a record")
    return record


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # No link: another user of the host could have put one there.
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise _failure(path, error) from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        os.close(fd)
        raise AgentError(f"the audit log {path} is not a file of this user: name another directory")
    os.fchmod(fd, 0o600)
    return fd


def _lock(fd: int, path: Path) -> None:
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise AgentError(f"the audit log {path} is locked by another process") from None
            time.sleep(_LOCK_AGAIN)


def _failure(path: Path, error: OSError) -> AgentError:
    return AgentError(
        f"the audit log {path} cannot be written ({error.strerror or error}): the agent cannot go on without "
        "it. Make room, or name another directory"
    )
