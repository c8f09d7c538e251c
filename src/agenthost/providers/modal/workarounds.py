"""What Modal's client (1.6.4) and its sandboxes do that a caller has to work around.

Each part names what it is for; without the part a test in tests/modal_provider fails.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - Modal's client is asyncio's, and so are the tasks that wait for it
import logging
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import anyio
from modal.config import DEFAULT_SERVER_URL, config

from agenthost.adapter.calls import Calls, LateError
from agenthost.errors import AgentHostError, ConfigError
from agenthost.providers.modal.settings import Settings

T = TypeVar("T")
S = TypeVar("S")

THROTTLED = "Modal limits how much is requested at once"
_LETTING_GO = 2.0  # seconds that a cancelled call may take to end
_LOGGERS = ("modal-utils", "modal-client")  # Modal prints the name of the second for the first

# The sandbox's main program. Modal can neither kill a program that ``exec`` started nor end a sandbox with
# one, so the main program ends with the guest: $1 is the boot directory, $2 the mark of this sandbox, $3 the
# seconds that the guest may take to appear. Without the mark the files are those of another sandbox, in a
# snapshot. Without ``seen`` (see PUT) programs of ``exec`` run in another namespace, and the lifetime alone
# ends the sandbox. Being process 1 it needs a handler for SIGTERM: without one Modal's end of a sandbox waits
# until it kills.
MAIN = """
trap 'kill $! 2>/dev/null; exit 143' TERM
pause() { sleep "$1" & wait $!; }
n=0
until [ -e "$1/$2" ] && pid=$(cat "$1/guest.sock.pid"); do
    [ "$n" -lt "$3" ] || exit 1
    n=$((n + 1))
    pause 1
done 2>/dev/null
[ -e "$1/seen" ] || pause infinity
while kill -0 "$pid"; do pause 2; done 2>/dev/null
"""
# Seconds until a sandbox without a guest ends itself: an installation is over by then. A sandbox that Modal
# made after its host had given up is found by nothing else.
UNCLAIMED = 1200

# $1 is the boot directory, whose archive is on stdin. A directory that exists is another sandbox's, in a
# snapshot. The main program is searched for by the mark among its arguments; in brackets, so that grep does
# not find itself.
PUT = (
    'exec 2>&1; umask 077; rm -rf "$1" && mkdir -p "$1" && tar -xof - -C "$1" || exit; '
    'for f in "$1"/made-for-*; do '
    'grep -qs "[m]ade-for-${f##*/made-for-}" /proc/[0-9]*/cmdline && : > "$1/seen"; done; true'
)


async def bridged(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Return what a call returns; when cancelled, cancel the call once and wait until it has ended.

    anyio cancels again and again until a task ends. Modal's client takes the second cancellation as the
    request to leave everything as it is, and the results of its own thread are then lost.
    """
    task = asyncio.ensure_future(call())
    done = anyio.Event()
    task.add_done_callback(_fetch)  # the task may fail in the moment in which this is cancelled
    task.add_done_callback(lambda _: done.set())
    try:
        await done.wait()
    finally:
        if not task.done():
            task.cancel()
            with anyio.move_on_after(_LETTING_GO, shield=True):
                await done.wait()
    return task.result()


def _fetch(task: asyncio.Task[Any]) -> None:
    """Fetch the error of a task that is no longer awaited: asyncio reports errors that nothing fetches."""
    if not task.cancelled():
        task.exception()


class _Listener(logging.Handler):
    """Counts the calls that Modal's client logs as put off."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Look at one record, which other handlers write."""
        if "RESOURCE_EXHAUSTED" in record.getMessage():
            self.count += 1


_listener = _Listener()


@contextmanager
def throttling_named() -> Generator[None]:
    """Add to a LateError of the block that Modal throttled: the client then waits, and only logs why."""
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(_listener)  # once, however often it is added
    before = _listener.count
    try:
        yield
    except LateError as error:
        if _listener.count == before:
            raise
        raise LateError(f"{error}; {THROTTLED}") from error


class BridgedCalls(Calls):
    """Calls of Modal's client. See ``bridged`` and ``throttling_named``."""

    async def once(self, doing: str, within: float, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what a call returns. See Calls.bounded."""
        with throttling_named():
            async with self.bounded(doing, within=within):
                return await bridged(call)
        raise AssertionError("a call that takes too long raises LateError")

    async def repeated(self, doing: str, within: float, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what a call returns that may be made twice. See Calls.repeat."""
        with throttling_named():
            return await self.repeat(doing, lambda: bridged(call), within=within)
        raise AssertionError("a call that takes too long raises LateError")


class Connections:
    """Sandboxes that may have a connection to their worker.

    The client closes these connections when Python collects the sandboxes, not when the client is closed.

    Args:
        once: See BridgedCalls.
        within: Seconds for closing one connection.
    """

    def __init__(self, once: Callable[..., Coroutine[Any, Any, Any]], within: float) -> None:
        self._once = once
        self._within = within
        self._sandboxes: set[Any] = set()

    def keep(self, sandbox: S) -> S:
        """Note a sandbox, and return it."""
        self._sandboxes.add(sandbox)
        return sandbox

    def of(self, sandbox_id: str) -> list[Any]:
        """Return the noted handles of one sandbox."""
        return [sandbox for sandbox in self._sandboxes if sandbox.object_id == sandbox_id]

    async def close(self, sandboxes: Sequence[Any] | None = None) -> None:
        """Close the connections of these, None of all, as soon as nothing uses them; all at once."""
        async with anyio.create_task_group() as tasks:
            for sandbox in tuple(self._sandboxes if sandboxes is None else sandboxes):
                tasks.start_soon(self._close, sandbox)

    async def _close(self, sandbox: Any) -> None:
        self._sandboxes.discard(sandbox)
        with suppress(AgentHostError):
            await self._once("closing a connection", self._within, sandbox.detach.aio)


def refuse_profile(settings: Settings) -> None:
    """Refuse what a profile in ~/.modal.toml would decide, which Modal's client reads as it is imported.

    A token must not go to a server that was not named beside it.

    Raises:
        ConfigError: The profile names a server or an environment, and neither option nor variable does; or it
            asks for Modal's first kind of sandboxes, which this adapter does not know.
    """
    for key, given, unless in (
        ("server_url", settings.server_url, DEFAULT_SERVER_URL),
        ("environment", settings.environment, None),
    ):
        found: object = config.get(key, use_env=False)
        if given is None and found and found != unless:
            raise ConfigError(
                f"the active profile of ~/.modal.toml sets {key} = {found!r}, and is not read here: set it "
                f"by {key}= or MODAL_{key.upper()}, or remove it from the profile"
            )
    if config.get("sandbox_v2") is not True:
        raise ConfigError(
            "sandbox_v2 is off, by MODAL_SANDBOX_V2 or the active profile of ~/.modal.toml: the modal "
            "provider works with Modal's sandboxes of version 2 only"
        )
