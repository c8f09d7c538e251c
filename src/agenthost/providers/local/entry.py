"""Make the directory of a new sandbox: lock, socket, workspace, boot files."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import secrets
import socket
import struct
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from agenthost.errors import IsolationUnavailableError, NameTakenError, SandboxStartError
from agenthost.providers.local.keeper.removal import remove_contents
from agenthost.providers.local.state import is_alive

# systemd's range for users that exist as long as a service: no package or person owns one.
_UIDS = range(61184, 65520)
_STALE_SECONDS = 60.0
_BACKLOG = 16
_LOCK_DIRECTORIES = ("/run", "/var/lib", "/root", "/")


class Entry:
    """A sandbox's directory, locked by us until its keeper has the lock too."""

    def __init__(self, directory: str, *, uid: int | None) -> None:
        self.directory = directory
        self.uid = uid
        self.lock_fd = -1
        self.listen_fd = -1
        self.other_fds: list[int] = []

    def close(self) -> None:
        """Let go of the open files. A keeper that inherited them goes on holding them. Idempotent."""
        for fd in (self.lock_fd, self.listen_fd, *self.other_fds):
            if fd >= 0:
                os.close(fd)
        self.lock_fd = self.listen_fd = -1
        self.other_fds.clear()


def make_entry(parent: str, name: str, boot_files: Mapping[str, bytes], *, drop: bool) -> Entry:
    """Make the directory of a sandbox with all that its keeper needs.

    It appears under its name complete and locked: who looks never sees a half-made one.

    Args:
        parent: The provider's directory.
        name: The sandbox's name, unique there.
        boot_files: What goes into ``boot``, by name.
        drop: Take a user id for this sandbox alone and give it the directories.

    Raises:
        ConfigError: A sandbox of this name exists.
        IsolationUnavailableError: No user id can be had.
        SandboxStartError: The disk is full, or the like.
    """
    remove_unfinished(parent)
    with _locked(parent, fcntl.LOCK_SH):
        return _make_entry(parent, name, boot_files, drop=drop)


def _make_entry(parent: str, name: str, boot_files: Mapping[str, bytes], *, drop: bool) -> Entry:
    entry = Entry(os.path.join(parent, f".new-{secrets.token_hex(8)}"), uid=None)
    try:
        if drop:
            entry.uid = _take_uid(entry)
        _fill(entry, boot_files)
        final = os.path.join(parent, name)
        try:
            os.rename(entry.directory, final)
        except OSError as error:
            if not os.path.lexists(final):
                raise
            raise NameTakenError(f"a local sandbox named {name} exists already") from error
        entry.directory = final
    except BaseException as error:
        discard(entry)
        if isinstance(error, OSError):
            raise SandboxStartError(f"cannot make {entry.directory}: {error.strerror}") from error
        raise
    return entry


def discard(entry: Entry) -> None:
    """Remove an entry that no keeper has."""
    if os.path.isdir(entry.directory):
        remove_contents(entry.directory)
        os.rmdir(entry.directory)
    entry.close()


def remove_unfinished(parent: str) -> None:
    """Remove what a host left that died while it made an entry.

    While others make theirs, one that has no lock yet is told from a dead one by its age.
    """
    try:
        with _locked(parent, fcntl.LOCK_EX | fcntl.LOCK_NB):
            _remove_unfinished(parent, older_than=-math.inf)
    except BlockingIOError:
        _remove_unfinished(parent, older_than=_STALE_SECONDS)


@contextmanager
def _locked(parent: str, how: int) -> Generator[None]:
    """Hold a lock on a directory: shared by all who make entries there."""
    fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)


def _remove_unfinished(parent: str, older_than: float) -> None:
    for name in os.listdir(parent):
        path = os.path.join(parent, name)
        try:
            if not name.startswith(".new-") or is_alive(path):
                continue
            if time.time() - os.stat(path).st_mtime > older_than:
                remove_contents(path)
                os.rmdir(path)
        except FileNotFoundError:
            continue


def _fill(entry: Entry, boot_files: Mapping[str, bytes]) -> None:
    directory = entry.directory
    os.mkdir(directory, 0o700)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    entry.lock_fd = os.open(directory + "/lock", flags, 0o600)
    fcntl.flock(entry.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for name in ("work", "home", "spool", "boot"):
        os.mkdir(f"{directory}/{name}", 0o700)
        _give(entry, f"{directory}/{name}")
    for name, content in boot_files.items():
        path = f"{directory}/boot/{name}"
        fd = os.open(path, flags, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
        _give(entry, path)
    entry.listen_fd = _listen(directory)


def _give(entry: Entry, path: str) -> None:
    if entry.uid is not None:
        os.chown(path, entry.uid, entry.uid, follow_symlinks=False)


def _listen(directory: str) -> int:
    """Return a listening socket at ``directory/sock``, whatever the length of that path."""
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            # An address of a unix socket has 108 bytes; this one is always short enough.
            path = f"/proc/self/fd/{handle}/sock"
            listener.bind(path)
            # The directory is 0700 already: nobody else could have come in between.
            os.chmod(path, 0o600)
            listener.listen(_BACKLOG)
            return listener.detach()
    finally:
        os.close(handle)


def _take_uid(entry: Entry) -> int:
    """Return a user id that no process has and no other sandbox takes while this one lives."""
    free = _mapped_uids()
    if not free:
        raise IsolationUnavailableError(
            "agenthost runs as root where no other user id can be taken on (see /proc/self/uid_map), and a "
            "sandbox of root is none. Run it as an ordinary user."
        )
    used = _uids_in_use()
    locks = _open_uid_locks()
    entry.other_fds.append(locks)
    # From a random place on: two hosts that begin at once rarely want the same.
    start = secrets.randbelow(len(free))
    for uid in (*free[start:], *free[:start]):
        if uid in used or os.path.exists(f"/run/systemd/dynamic-uid/{uid}"):
            continue
        try:
            # Of an open file, not of a process: the kernel frees it with the last process that has it open.
            fcntl.fcntl(
                locks, fcntl.F_OFD_SETLK, struct.pack("@hhqqi", fcntl.F_WRLCK, os.SEEK_SET, uid, 1, 0)
            )
        except BlockingIOError:
            continue
        return uid
    raise IsolationUnavailableError(f"all user ids from {_UIDS.start} to {_UIDS.stop - 1} are taken")


def _open_uid_locks() -> int:
    """Return a file that all hosts of this machine share, one byte of it for each user id.

    Only root may open it. A name of an abstract socket would do as well, but for sandboxes with the host's
    network: such a name is theirs to take, too.

    Raises:
        IsolationUnavailableError: There is no place for it that only root can write to.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    for directory in _LOCK_DIRECTORIES:
        try:
            if os.stat(directory).st_uid != 0 or os.stat(directory).st_mode & 0o022:
                continue
            return os.open(f"{directory}/agenthost-uids.lock", flags, 0o600)
        except OSError:
            continue  # it is missing, or read-only as in some containers
    raise IsolationUnavailableError(
        "user ids of sandboxes are reserved in a file that only root can write to, and there is no place "
        f"for it: make one of {', '.join(_LOCK_DIRECTORIES)} writable for root alone, or run this as an "
        "ordinary user"
    )


def _mapped_uids() -> list[int]:
    """Return the ids of our range that exist in this user namespace."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        rows = [[int(word) for word in line.split()] for line in file]
    return [
        uid
        for first, _, count in rows
        for uid in range(max(first, _UIDS.start), min(first + count, _UIDS.stop))
    ]


def _uids_in_use() -> set[int]:
    used: set[int] = set()
    for name in os.listdir("/proc"):
        with contextlib.suppress(FileNotFoundError):
            if name.isdigit():
                used.add(os.stat(f"/proc/{name}").st_uid)
    return used
