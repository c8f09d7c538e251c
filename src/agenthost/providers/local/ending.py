"""End a sandbox from outside: by its keeper, or in its keeper's place where that one is dead."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from functools import partial

import anyio

from agenthost.errors import ProviderError
from agenthost.providers.local import mounts, state
from agenthost.providers.local.keeper import cgroups, handles
from agenthost.providers.local.keeper.numbers import LISTEN_FD
from agenthost.providers.local.keeper.removal import remove_all, take_away
from agenthost.threads import in_thread

# The keeper's own bounds, a grace and two kills, are below this.
_KEEPER_SECONDS = 20.0
_KILLED_SECONDS = 5.0
_REMOVING_SECONDS = 2.0  # that the removal of files is waited for; two million of them take 40
_END_SECONDS = 60.0
_STEP = 0.02
_KEEPER_PROGRAM = b"agenthost.providers.local.keeper.main"
_UNISOLATED = "local-unisolated"
_CGROUP_ROOT = "/sys/fs/cgroup/"
_CGROUP_PREFIX = "agenthost-"


async def end(directory: str) -> None:
    """End the sandbox in ``directory`` and remove all of it. No error when there is none.

    Raises:
        ProviderError: Something could not be removed; the message says what.
    """
    deadline = anyio.current_time() + _END_SECONDS
    keepers = _open_while_held(_written_keeper(directory), directory)
    while True:
        for handle in keepers:
            try:
                await _end_keeper(handle, directory)
            finally:
                os.close(handle)
        if await in_thread(partial(_is_taken_away, directory)):
            await _remove(directory)
            return
        if anyio.current_time() > deadline:
            raise ProviderError(f"somebody still holds the sandbox in {directory}")
        await anyio.sleep(_STEP)
        # The state file names nobody who lives, or is not to be read: look who has the lock open.
        keepers = _open_while_held(_holders(directory), directory)


async def _end_keeper(handle: int, directory: str) -> None:
    for number, seconds in ((signal.SIGTERM, _KEEPER_SECONDS), (signal.SIGKILL, _KILLED_SECONDS)):
        handles.send(handle, number)
        with anyio.move_on_after(seconds):
            while True:
                with anyio.move_on_after(_REMOVING_SECONDS) as look:
                    await anyio.wait_readable(handle)
                # It may have many files to remove, of a sandbox that has ended: it goes on with that alone.
                if not look.cancelled_caught or not await in_thread(partial(os.path.isdir, directory)):
                    return


def _is_taken_away(directory: str) -> bool:
    return take_leftovers(directory) is not None


async def _remove(directory: str) -> None:
    """Remove the files of a sandbox that has ended. What takes long goes on without the caller."""
    with anyio.move_on_after(_REMOVING_SECONDS, shield=True):
        # Its keeper may be at it, or another host.
        while left := state.ended_entries(os.path.dirname(directory), os.path.basename(directory)):
            for gone in left:
                await in_thread(partial(remove_ended, gone), abandon=True)
            await anyio.sleep(_STEP)


def remove_ended(directory: str) -> None:
    """Remove a directory that ``take_leftovers`` has taken away, unless another process does.

    Raises:
        ProviderError: Something could not be removed.
    """
    lock = state.claim(directory)
    if lock is None:
        return
    try:
        remove_all(directory)
    except FileNotFoundError:
        return  # another process removes the same; what matters is that it goes
    except OSError as error:
        raise ProviderError(f"cannot remove what is left of a sandbox in {directory}: {error}") from error
    finally:
        os.close(lock)


def take_leftovers(directory: str) -> str | None:
    """End what a dead keeper left, and take its files out of the way; ``remove_ended`` removes them.

    Returns:
        Where the files are now, empty where there are none. None: another process holds the sandbox, or ends
        it right now.

    Raises:
        ProviderError: Something could not be ended.
    """
    if not os.path.isdir(directory):
        return ""
    lock = state.claim(directory)
    if lock is None:
        return None if os.path.isdir(directory) else ""
    try:
        record = state.read_record(directory)
        _kill_processes(directory, None if record is None else record.socket)
        if record is not None:
            cgroups.remove([path for path in record.cgroups if _is_ours(path)])
        return take_away(directory)
    except FileNotFoundError:
        # Another process ends the same; what matters is that it goes.
        return None if os.path.isdir(directory) else ""
    except OSError as error:
        raise ProviderError(f"cannot end what is left of a sandbox in {directory}: {error}") from error
    finally:
        os.close(lock)


def _is_ours(path: str) -> bool:
    plain = os.path.normpath(path) == path and path.startswith(_CGROUP_ROOT)
    return plain and os.path.basename(path).startswith(_CGROUP_PREFIX)


def _written_keeper(directory: str) -> list[int]:
    record = state.read_record(directory)
    return [] if record is None else [record.keeper]


def _open_while_held(pids: list[int], directory: str) -> list[int]:
    """Open processes; keep them only when the lock is still held then, so that no number is a stranger's."""
    opened: list[int] = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            opened.append(handles.open_handle(pid))
    if opened and not state.is_alive(directory):
        for handle in opened:
            os.close(handle)
        return []
    return opened


def _holders(directory: str) -> list[int]:
    """Return the keepers that have the lock open.

    A host that removes the same sandbox has it open too, for a moment. It is not to be ended.
    """
    try:
        wanted = os.stat(directory + "/lock")
    except FileNotFoundError:
        return []
    found: list[int] = []
    for pid in _other_processes():
        if _KEEPER_PROGRAM not in _read(pid, "cmdline"):
            continue
        with contextlib.suppress(OSError):
            if any(_is_open(path, wanted) for path in _open_files(pid)):
                found.append(pid)
    return found


def _open_files(pid: int) -> list[str]:
    return [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]


def _is_open(path: str, wanted: os.stat_result) -> bool:
    try:
        info = os.stat(path)
    except OSError:
        return False
    return (info.st_dev, info.st_ino) == (wanted.st_dev, wanted.st_ino)


def _kill_processes(directory: str, socket_inode: int | None) -> None:
    """Kill what still runs although its keeper was killed, and wait until it is gone.

    bubblewrap dies with its keeper, a moment later, and not in its first millisecond. What is in a sandbox
    is recognised by its mounts, or before it has any by the listening socket. An unisolated process is
    recognised by its environment or working directory, so a program that changed both gets away: one more
    reason why that provider is not the default.
    """
    marks = _Marks.of(directory, socket_inode)
    deadline = time.monotonic() + _KILLED_SECONDS
    quiet = 0
    # Twice: a child may be born after the first look began, of a parent that is dead before it is looked at.
    while quiet < 2 and time.monotonic() < deadline:
        found = [pid for pid in _other_processes() if marks.fit(pid)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        quiet = 0 if found else quiet + 1
        if found:
            time.sleep(_STEP)


@dataclass(frozen=True, slots=True)
class _Marks:
    """What tells the processes of one sandbox from all others.

    Attributes:
        home: Its home directory as a mount shows it: the file system's device, and the whole path from that
            file system's root. Another deployment may have a sandbox of the same name on the same device.
        isolated: Its processes are in namespaces of their own. What only works in its directory, a shell of
            a user for instance, is none of them.
    """

    directory: str
    environment: bytes
    listener: str
    home: tuple[bytes, bytes]
    isolated: bool

    @staticmethod
    def of(directory: str, socket_inode: int | None) -> _Marks:
        device, root = mounts.place_of(directory)
        return _Marks(
            directory=directory,
            environment=os.fsencode(f"HOME={directory}/home"),
            listener=f"socket:[{socket_inode}]",
            home=(device, root + b"/home"),
            isolated=os.path.basename(os.path.dirname(directory)) != _UNISOLATED,
        )

    def fit(self, pid: int) -> bool:
        """Tell whether a process belongs. A zombie does not: it has none of all this."""
        return self._mounts(pid) or self._listens(pid) or (not self.isolated and self._works_there(pid))

    def _mounts(self, pid: int) -> bool:
        return any(self.home == (one.device, one.root) for one in mounts.parse(_read(pid, "mountinfo")))

    def _listens(self, pid: int) -> bool:
        # The kernel may give the number of a socket again: the file's own number must fit as well.
        return _link(pid, f"fd/{LISTEN_FD}") == self.listener

    def _works_there(self, pid: int) -> bool:
        if self.environment in _read(pid, "environ").split(b"\0"):
            return True
        return _link(pid, "cwd").startswith(self.directory + "/")


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        # It has ended, or belongs to somebody else.
        return b""


def _link(pid: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return ""


def _other_processes() -> list[int]:
    own = os.getpid()
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != own]
