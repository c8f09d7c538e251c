"""A ``dial`` program in a sandbox as a carrier, by E2B's commands.

Their output comes as text with what is no UTF-8 replaced: only lines of ASCII pass. Input is one ordered
stream, since single sends overtake each other.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the vendor's handles are tasks of asyncio, and so is what watches one
import contextlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio

from agenthost.providers.e2b.input import GatheringQueue
from agenthost.providers.e2b.shell import ENVIRONMENT, Opening
from agenthost.providers.e2b.starting import start

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from e2b import AsyncSandbox

_log = logging.getLogger("agenthost.providers.e2b")

_OPENING = 30.0  # seconds until a program has to be started
_CLOSING = 4.0  # seconds that each of the three steps of ending it may take
# A carrier is renewed after so much: E2B's load balancer ends every stream after 24 hours, and what it keeps
# of one is not known.
RENEW_BYTES = 64 * 1024 * 1024
RENEW_SECONDS = 3600.0
_UNSENT = 256 * 1024  # bytes of input that wait in the client; then who sends waits
_WAITING = 16  # pieces of output that wait for the reader; then the program waits
_KEPT = 2000  # characters of stderr, for the log


class CommandCarrier:
    """Joins a program's output and input. Use ``open_carrier``.

    Args:
        out: Where its output is put.
        received: Where that comes out.
        renew_bytes: What is received by it at most, but for the piece that goes beyond.
        renew_seconds: How long it is received by.

    Attributes:
        refused: The program found no guest in the sandbox.
    """

    binary = False

    def __init__(
        self,
        out: MemoryObjectSendStream[bytes],
        received: MemoryObjectReceiveStream[bytes],
        *,
        renew_bytes: int = RENEW_BYTES,
        renew_seconds: float = RENEW_SECONDS,
    ) -> None:
        self.refused = False
        self._out = out
        self._received = received
        self._left = renew_bytes
        self._renew_at = anyio.current_time() + renew_seconds
        self._unsent = GatheringQueue(_UNSENT)
        self._handle: Any = None
        self._input: Any = None
        self._watching: asyncio.Task[None] | None = None
        self._has_ended = False
        self._closed = False
        self._said = ""

    async def send(self, data: bytes) -> None:
        """Send all bytes; waits while the program does not take what was sent before."""
        if self._closed or self._has_ended:
            raise anyio.ClosedResourceError
        await self._unsent.put(data)
        if self._input._task.done():  # noqa: SLF001 - nobody takes any more, and only the vendor's send would say it
            raise anyio.BrokenResourceError

    async def receive(self) -> bytes:
        """Return the next bytes; ``b""`` at the end, and when another carrier has to take over."""
        if self._left <= 0:
            return b""
        try:
            with anyio.move_on_at(self._renew_at):
                data = await self._received.receive()
                self._left -= len(data)
                return data
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            pass
        return b""

    async def aclose(self) -> None:
        """End the program, and every task of the vendor's client for it. Idempotent."""
        if self._closed:
            return
        self._closed = True
        with anyio.CancelScope(shield=True):
            await self._stop_tasks()
            if not self._has_ended:
                # Going away ends nothing there: it would wait for us until the guest gave up.
                with anyio.move_on_after(_CLOSING), contextlib.suppress(Exception):
                    await self._handle.kill()
            self._out.close()  # who watches may have been cancelled before it began
            self._received.close()

    def start(self, handle: Any, sending: Any) -> None:
        """For ``open_carrier``: the program runs."""
        self._handle, self._input = handle, sending
        sending._queue = self._unsent  # noqa: SLF001 - its own has no bound; its task has not begun yet
        sending._task.add_done_callback(self._input_ended)  # noqa: SLF001 - it tells only who sends
        self._watching = asyncio.create_task(self._watch())

    def said(self, text: str) -> None:
        """Keep the end of what the program says on stderr."""
        self._said = (self._said + text)[-_KEPT:]

    def _input_ended(self, task: asyncio.Task[None]) -> None:
        # Cancelled, the client raises an error of its own, which asyncio would report if nobody asked for it.
        if not task.cancelled():
            task.exception()
        self._out.close()

    async def _watch(self) -> None:
        """See the end of the program, or of its stream."""
        try:
            await self._handle.wait()
            self._has_ended = True
        except Exception as exc:  # noqa: BLE001 - whatever it is, this carrier has ended, and another is dialled
            self._has_ended = getattr(exc, "exit_code", None) is not None
            self.refused = self._has_ended and "the guest does not answer" in self._said
            _log.debug("a carrier ended: %s: %s %s", type(exc).__name__, exc, self._said)
        finally:
            self._out.close()

    async def _stop_tasks(self) -> None:
        # The client waits for the server's word before it lets go of an input stream. A server that is out
        # of reach has none, and the task would be left.
        sending: asyncio.Task[None] = self._input._task  # noqa: SLF001 - there is no other way to end it
        tasks = [sending, *([self._watching] if self._watching is not None else [])]
        for task in tasks:
            task.cancel()
        with anyio.move_on_after(_CLOSING):
            await asyncio.wait(tasks)
        # With a time of its own: a stream of output that is left open is closed by the event loop in the end,
        # which then reports what the client makes of that.
        with anyio.move_on_after(_CLOSING):
            await self._handle.disconnect()


async def open_carrier(
    sandbox: AsyncSandbox,
    argv: Sequence[str],
    *,
    renew_bytes: int = RENEW_BYTES,
    renew_seconds: float = RENEW_SECONDS,
) -> CommandCarrier:
    """Start a ``dial`` program and join its streams. Raises the vendor's errors."""
    out, received = anyio.create_memory_object_stream[bytes](_WAITING)
    carrier = CommandCarrier(out, received, renew_bytes=renew_bytes, renew_seconds=renew_seconds)
    opening = Opening(argv)

    async def on_stdout(text: str) -> None:
        if said := opening.pass_on(text):
            await out.send(said.encode("ascii", "replace"))

    # 0 is no limit: what the client takes unless told ends every program after a minute.
    try:
        handle = await start(
            sandbox,
            opening.command,
            within=_OPENING,
            envs=ENVIRONMENT,
            on_stdout=on_stdout,
            on_stderr=carrier.said,
            stdin=True,
            timeout=0,
        )
    except BaseException:
        out.close()
        received.close()
        raise
    carrier.start(handle, sandbox.commands.stream_input(handle.pid, timeout=0))
    return carrier
