"""What Modal's client (1.6.4) and its sandboxes do that a caller has to work around.

Each part names what it is for; without the part a test in tests/modal_provider fails.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - Modal's client is asyncio's, and so are the tasks that wait for it
import logging
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar, cast

import anyio
import modal
import modal.exception
from modal.config import DEFAULT_SERVER_URL, config
from modal_proto import api_pb2

from agenthost.adapter.calls import CALL_SECONDS, Calls, LateError
from agenthost.errors import AgentHostError, ConfigError

T = TypeVar("T")

CLOSING = 3.0  # seconds for closing one connection, or the client

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


class BridgedCalls(Calls):
    """Calls of Modal's client: see ``bridged``. An error names the throttling that the client only logs.

    Attributes:
        seconds: What a call may take that states nothing else. Modal's client itself waits for a minute, or
            for ever when throttled.
    """

    seconds = 30.0

    @asynccontextmanager
    async def bounded(
        self, doing: str, *, within: float | None = CALL_SECONDS, secrets: Sequence[str] = ()
    ) -> AsyncGenerator[None]:
        """Bound the block in time and translate what it raises. See Calls.bounded."""
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(_listener)  # once, however often it is added
        before = _listener.count
        try:
            async with super().bounded(doing, within=within, secrets=secrets):
                yield
        except LateError as error:
            if _listener.count == before:
                raise
            raise LateError(f"{error}; {THROTTLED}") from error

    async def once(
        self, doing: str, call: Callable[[], Coroutine[Any, Any, T]], *, within: float | None = None
    ) -> T:
        """Return what a call returns. See Calls.bounded."""
        async with self.bounded(doing, within=within or self.seconds):
            return await bridged(call)

    async def repeated(
        self, doing: str, call: Callable[[], Coroutine[Any, Any, T]], *, within: float | None = None
    ) -> T:
        """Return what a call returns that may be made twice. See Calls.repeat."""
        return await self.repeat(doing, lambda: bridged(call), within=within or self.seconds)


def stated_wait(error: Any) -> float | None:
    """Return the seconds after which Modal wants a call again.

    The public attribute of the error's details warns of itself.
    """
    details: Any = cast("dict[str, Any]", vars(error)).get("_grpc_details")
    found = (one.retry_after_secs for one in details or () if isinstance(one, api_pb2.RPCRetryPolicy))
    return next(found, None)


async def end_sandbox(sandbox: modal.Sandbox) -> None:
    """End a sandbox, and return when it has ended. The client raises for one whose lifetime is over."""
    with suppress(modal.exception.SandboxTimeoutError):
        await sandbox.terminate.aio(wait=True)


class Connections:
    """Sandboxes that may have a connection to their worker.

    The client closes these connections when Python collects the sandboxes, not when the client is closed.

    Args:
        calls: For closing.
    """

    def __init__(self, calls: BridgedCalls) -> None:
        self._calls = calls
        self._sandboxes: set[Any] = set()  # typed in part

    def keep(self, sandbox: modal.Sandbox) -> modal.Sandbox:
        """Note a sandbox, and return it."""
        self._sandboxes.add(sandbox)
        return sandbox

    def of(self, sandbox_id: str) -> modal.Sandbox | None:
        """Return a noted handle of a sandbox, None where there is none."""
        return next((one for one in self._sandboxes if one.object_id == sandbox_id), None)

    async def close(self, sandbox_id: str | None = None) -> None:
        """Close the connections of a sandbox, None of all, as soon as nothing uses them; all at once."""
        async with anyio.create_task_group() as tasks:
            for sandbox in tuple(self._sandboxes):
                if sandbox_id in (None, sandbox.object_id):
                    self._sandboxes.discard(sandbox)
                    tasks.start_soon(self._close, sandbox)

    async def _close(self, sandbox: Any) -> None:
        with suppress(AgentHostError):
            await self._calls.once("closing a connection", sandbox.detach.aio, within=CLOSING)


def place_of(environment: str | None, server_url: str | None) -> tuple[str | None, str]:
    """Return the environment and the server: as given, else as the environment variables name them.

    A profile in ~/.modal.toml, which Modal's client reads as it is imported, decides nothing: a token must
    not go to a server that was not named beside it.

    Args:
        environment: Modal's environment; None is MODAL_ENVIRONMENT, else the workspace's default.
        server_url: Of Modal's API; None is MODAL_SERVER_URL, else Modal's own.

    Raises:
        ConfigError: The profile names a server or an environment, and neither option nor variable does; or it
            asks for Modal's first kind of sandboxes, which this adapter does not know.
    """

    def named(key: str, given: str | None, usual: str | None) -> str | None:
        value = given or os.environ.get(f"MODAL_{key.upper()}")
        found: object = config.get(key, use_env=False)
        if not value and found and found != usual:
            raise ConfigError(
                f"the active profile of ~/.modal.toml sets {key} = {found!r}, and is not read here: set it "
                f"by {key}= or MODAL_{key.upper()}, or remove it from the profile"
            )
        return value or usual

    url = named("server_url", server_url, DEFAULT_SERVER_URL)
    place = (named("environment", environment, None), url or DEFAULT_SERVER_URL)
    if config.get("sandbox_v2") is not True:
        raise ConfigError(
            "sandbox_v2 is off, by MODAL_SANDBOX_V2 or the active profile of ~/.modal.toml: the modal "
            "provider works with Modal's sandboxes of version 2 only"
        )
    return place
