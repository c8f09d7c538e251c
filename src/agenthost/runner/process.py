"""This process among others: its memory closed to its neighbours, and every descendant ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Generator, Iterator

_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_OWN_PREFIX = "AGENTHOST_"
_LOOK_SECONDS = 0.02


def harden() -> None:
    """Close /proc/PID/{mem,environ,fd,maps} to processes of the same user, and adopt orphans.

    A program that the agent left in the background loses its parent when the CLI ends; adopted by the
    runner it stays among its descendants and is found by ``end_descendants``.
    """
    with contextlib.suppress(OSError, AttributeError):  # no prctl here: the sandbox is no Linux
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def strip_environment() -> None:
    """Remove what is ours from the environment: the CLI inherits it, and the agent's programs the CLI's."""
    for name in [name for name in os.environ if name.startswith(_OWN_PREFIX)]:
        del os.environ[name]


def _processes() -> Iterator[tuple[int, int, str]]:
    """Yield pid, parent's pid and state of every process."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    for name in names:
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                data = file.read()
        except OSError:  # it has just ended
            continue
        # The command in parentheses may hold spaces and parentheses: count from the last one.
        state, parent = data[data.rindex(b")") + 2 :].split(b" ", 2)[:2]
        yield int(name), int(parent), state.decode("ascii")


def children() -> list[int]:
    """Return the pids of the direct children that have not ended."""
    own = os.getpid()
    return [pid for pid, parent, state in _processes() if parent == own and state not in "ZX"]


def descendants() -> list[int]:
    """Return the pids of all descendants that have not ended."""
    below: dict[int, list[tuple[int, str]]] = {}
    for pid, parent, state in _processes():
        below.setdefault(parent, []).append((pid, state))
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        for pid, state in below.get(waiting.pop(), ()):
            waiting.append(pid)
            if state not in "ZX":
                found.append(pid)
    return found


async def end_descendants(*, grace: float, limit: float = 3.0) -> None:
    """Send SIGTERM to every descendant and, after ``grace`` seconds, SIGKILL until none is left.

    Gives up after ``grace + limit`` seconds: a process in an uninterruptible wait cannot be ended.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    _send(descendants(), signal.SIGTERM)
    while left := descendants():
        passed = loop.time() - start
        if passed > grace + limit:
            return
        if passed >= grace:  # asked again each time: one may have forked since
            _send(left, signal.SIGKILL)
        await asyncio.sleep(_LOOK_SECONDS)


def _send(pids: list[int], signum: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)


async def reap_adopted(*, every: float = 30.0) -> None:
    """Collect adopted zombies, until cancelled: each holds a slot of the sandbox's process table.

    asyncio collects its own child within moments, so that a child found ended twice was adopted.
    """
    before: set[int] = set()
    while True:
        await asyncio.sleep(every)
        own = os.getpid()
        ended = {pid for pid, parent, state in _processes() if parent == own and state == "Z"}
        for pid in ended & before:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - WNOHANG does not wait
        before = ended - before


async def first_child() -> int:
    """Return the pid of the first child that appears: the CLI."""
    while not (found := children()):  # noqa: ASYNC110 - the kernel has no event for a child's birth
        await asyncio.sleep(_LOOK_SECONDS)
    return found[0]


@contextlib.contextmanager
def when_ended(pid: int, call: Callable[[], None]) -> Generator[None]:
    """Call ``call`` once in the loop when the child ends, whoever collects it."""
    loop = asyncio.get_running_loop()
    try:
        fd = os.pidfd_open(pid)
    except (OSError, AttributeError):
        # Ended and collected already, or a kernel or Python without pidfd: the stream's end must do.
        yield
        return

    def ended() -> None:
        loop.remove_reader(fd)
        call()

    loop.add_reader(fd, ended)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        os.close(fd)
