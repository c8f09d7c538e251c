"""A program in a sandbox by E2B's commands.

Output arrives as text in which bytes that are not UTF-8 are replaced: only lines of ASCII pass. Input is one
ordered stream, since single sends overtake each other.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the vendor's handles are tasks of asyncio, and so is what watches one
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from agenthost.errors import ProviderError
from agenthost.providers.e2b.workarounds import BoundedInput, Opening

if TYPE_CHECKING:
    from e2b import AsyncSandbox

_log = logging.getLogger("agenthost.providers.e2b")

_CLOSING = 4.0  # seconds that each of the three steps of ending a program may take
_UNSENT = 256 * 1024  # bytes of input that wait in the client; then the sender waits
_WAITING = 16  # pieces of output that wait for the reader; then the program waits
_KEPT = 4000  # bytes of stderr


class E2BCommand:
    """See Running. Use ``open_command``."""

    binary = False

    def __init__(self) -> None:
        self._out, self._received = anyio.create_memory_object_stream[bytes](_WAITING)
        self._handle: Any = None
        self._input: BoundedInput | None = None
        self._watching: asyncio.Task[None] | None = None
        self._ended = anyio.Event()
        self._exit_code: int | None = None
        self._closed = False
        self.stderr = b""

    async def send(self, data: bytes) -> None:
        """Send all bytes; wait while too many are unsent."""
        if self._closed or self._ended.is_set() or self._input is None:
            raise anyio.ClosedResourceError
        await self._input.put(data)
        if self._input.task.done():  # only the client's own send would report this
            raise anyio.BrokenResourceError

    async def receive(self) -> bytes:
        """Return the next bytes; ``b""`` at the end."""
        try:
            return await self._received.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            return b""

    async def wait(self) -> int:
        """Return the exit code. Raises ProviderError when the stream of output was lost."""
        await self._ended.wait()
        if self._exit_code is None:
            raise ProviderError("E2B lost the output of a program", outcome="unknown")
        return self._exit_code

    async def aclose(self) -> None:
        """End the program, and every task of the vendor's client for it. Idempotent."""
        if self._closed:
            return
        self._closed = True
        with anyio.CancelScope(shield=True):
            await self._stop_tasks()
            if self._exit_code is None and self._handle is not None:
                # A disconnection ends nothing there: the program would wait until the guest gave up.
                with anyio.move_on_after(_CLOSING), contextlib.suppress(Exception):
                    await self._handle.kill()
            self._out.close()
            self._received.close()

    async def start(
        self, sandbox: AsyncSandbox, argv: Sequence[str], user: str, env: Mapping[str, str]
    ) -> None:
        """Start the program. For ``open_command``."""
        opening = Opening(argv)

        async def on_stdout(text: str) -> None:
            if rest := opening.pass_on(text):
                await self._out.send(rest.encode("ascii", "replace"))

        def on_stderr(text: str) -> None:
            self.stderr = (self.stderr + text.encode())[-_KEPT:]

        # 0 is no limit, for both: the client's default timeout ends every program after a minute, and a
        # cancelled request_timeout of the client leaves a task on Python 3.11 whose error nothing fetches.
        self._handle = handle = await sandbox.commands.run(
            opening.command,
            background=True,
            user=user,
            envs=dict(env),
            stdin=True,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            timeout=0,
            request_timeout=0,
            retain_output=False,
        )
        sending = sandbox.commands.stream_input(handle.pid, timeout=0)
        self._input = BoundedInput(sending, _UNSENT, self._out.close)
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        try:
            await self._handle.wait()
            self._exit_code = 0
        except Exception as exc:  # noqa: BLE001 - whatever it is, the program or its stream has ended
            self._exit_code = getattr(exc, "exit_code", None)
            _log.debug("a program ended: %s: %s %s", type(exc).__name__, exc, self.stderr)
        finally:
            self._ended.set()
            self._out.close()

    async def _stop_tasks(self) -> None:
        # The client waits for the server before it closes an input stream; an unreachable server never
        # answers.
        sending = None if self._input is None else self._input.task
        tasks = [task for task in (self._watching, sending) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            with anyio.move_on_after(_CLOSING):
                await asyncio.wait(tasks)
        # A stream of output that is left open is closed by the event loop in the end, which reports errors of
        # it.
        if self._handle is not None:
            with anyio.move_on_after(_CLOSING):
                await self._handle.disconnect()


async def open_command(
    sandbox: AsyncSandbox, argv: Sequence[str], *, user: str, env: Mapping[str, str]
) -> E2BCommand:
    """Start a program. Raises the vendor's errors."""
    command = E2BCommand()
    try:
        await command.start(sandbox, argv, user, env)
    except BaseException:
        await command.aclose()
        raise
    return command
