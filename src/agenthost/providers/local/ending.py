"""End a sandbox from outside: by its keeper, or in its keeper's place where that one is dead."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import anyio
import anyio.to_thread

from agenthost.errors import ProviderError
from agenthost.providers.local import state
from agenthost.providers.local.keeper import cgroups
from agenthost.providers.local.keeper.numbers import LISTEN_FD
from agenthost.providers.local.keeper.removal import remove_contents

# The keeper's own bounds, a grace and two kills, are below this.
_KEEPER_SECONDS = 20.0
_KILLED_SECONDS = 5.0
_END_SECONDS = 60.0
_STEP = 0.02
_KEEPER_PROGRAM = b"agenthost.providers.local.keeper.main"
_CGROUP_ROOT = "/sys/fs/cgroup/"
_CGROUP_PREFIX = "agenthost-"


async def end(directory: str) -> None:
    """End the sandbox in ``directory`` and remove all of it. No error when there is none.

    Raises:
        ProviderError: Something could not be removed; the message says what.
    """
    deadline = anyio.current_time() + _END_SECONDS
    handles = _open_while_held(_written_keeper(directory), directory)
    while True:
        for handle in handles:
            try:
                await _end_keeper(handle)
            finally:
                os.close(handle)
        if await anyio.to_thread.run_sync(remove_leftovers, directory):
            return
        if anyio.current_time() > deadline:
            raise ProviderError(f"somebody still holds the sandbox in {directory}")
        await anyio.sleep(_STEP)
        # The state file names nobody who lives, or is not to be read: look who has the lock open.
        handles = _open_while_held(_holders(directory), directory)


async def _end_keeper(handle: int) -> None:
    for number, seconds in ((signal.SIGTERM, _KEEPER_SECONDS), (signal.SIGKILL, _KILLED_SECONDS)):
        try:
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return
        with anyio.move_on_after(seconds):
            await anyio.wait_readable(handle)
            return


def remove_leftovers(directory: str) -> bool:
    """Remove what a dead keeper left. False: somebody holds the sandbox, or removes it right now.

    Raises:
        ProviderError: Something could not be removed.
    """
    if not os.path.isdir(directory):
        return True
    lock = state.claim(directory)
    if lock is None:
        return not os.path.isdir(directory)
    try:
        record = state.read_record(directory)
        _kill_processes(directory, None if record is None else record.socket)
        if record is not None:
            cgroups.remove([path for path in record.cgroups if _is_ours(path)])
        # The lock goes last: whoever comes in between finds it taken.
        remove_contents(directory, keep=("state.json", "lock"))
        remove_contents(directory, keep=("lock",))
        os.unlink(directory + "/lock")
        os.rmdir(directory)
    except FileNotFoundError:
        # Somebody else removes the same; what matters is that it goes.
        return not os.path.isdir(directory)
    except OSError as error:
        raise ProviderError(f"cannot remove what is left of a sandbox in {directory}: {error}") from error
    finally:
        os.close(lock)
    return True


def _is_ours(path: str) -> bool:
    plain = os.path.normpath(path) == path and path.startswith(_CGROUP_ROOT)
    return plain and os.path.basename(path).startswith(_CGROUP_PREFIX)


def _written_keeper(directory: str) -> list[int]:
    record = state.read_record(directory)
    return [] if record is None else [record.keeper]


def _open_while_held(pids: list[int], directory: str) -> list[int]:
    """Open processes; keep them only when the lock is still held then, so that no number is a stranger's."""
    handles: list[int] = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))
    if handles and not state.is_alive(directory):
        for handle in handles:
            os.close(handle)
        return []
    return handles


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
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if _KEEPER_PROGRAM not in file.read():
                    continue
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
    """Kill what runs on although its keeper was killed.

    bubblewrap dies with its keeper, but for its first millisecond; it is recognised by the listening
    socket. An unisolated process is recognised by its environment or working directory, so a program that
    changed both gets away: one more reason why that provider is not the default.
    """
    marker = os.fsencode(f"HOME={directory}/home")
    listener = f"socket:[{socket_inode}]"
    deadline = time.monotonic() + _KILLED_SECONDS
    while time.monotonic() < deadline:
        found = [pid for pid in _other_processes() if _belongs(pid, directory, marker, listener)]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _belongs(pid: int, directory: str, marker: bytes, listener: str) -> bool:
    with contextlib.suppress(OSError):
        # The kernel may give the number of a socket again: the file's own number must fit as well.
        if os.readlink(f"/proc/{pid}/fd/{LISTEN_FD}") == listener:
            return True
    try:
        # A zombie has neither environment nor directory.
        with open(f"/proc/{pid}/environ", "rb") as file:
            if marker in file.read().split(b"\0"):
                return True
        return os.readlink(f"/proc/{pid}/cwd").startswith(directory + "/")
    except OSError:
        return False


def _other_processes() -> list[int]:
    own = os.getpid()
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != own]
