"""A program in a sandbox by Modal's exec, whose streams are bytes."""

from __future__ import annotations

import asyncio  # noqa: TID251 - Modal's client is asyncio's, and so is the task that reads stderr
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import modal
from modal.stream_type import StreamType

from agenthost.providers.modal.workarounds import CLOSING, BridgedCalls, bridged

if TYPE_CHECKING:
    from modal.container_process import ContainerProcess

_PIECE = 4 * 1024 * 1024  # bytes of one write; the client's buffer takes 16 MiB
_KEPT = 4000  # bytes of stderr


class ExecCommand:
    """See Running. Without a pty: Modal's text mode breaks at the first byte that is not UTF-8.

    What Modal's client raises ends this program's streams, never the link: another dial follows.
    """

    binary = True

    def __init__(self, process: ContainerProcess[bytes], calls: BridgedCalls) -> None:
        self.stderr = b""
        self._process = process
        self._output: AsyncIterator[bytes] | None = None
        self._calls = calls
        # Of two drains at once one sends the other's bytes again, and a write during a drain is lost.
        self._writing = anyio.Lock()
        self._closed = False
        self._broken = False
        # What nothing reads can hold a program up.
        self._listening = asyncio.create_task(self._listen())

    async def send(self, data: bytes) -> None:
        """Send all bytes. ConnectionResetError when they could not be sent, or not in time."""
        async with self._writing:
            for begin in range(0, len(data), _PIECE):
                if self._closed or self._broken:
                    raise ConnectionResetError("the program's input has ended")
                # After a drain that was cut short it is not known what has arrived: nothing may follow.
                self._broken = True
                try:
                    self._process.stdin.write(data[begin : begin + _PIECE])
                    await self._calls.once("sending input", self._process.stdin.drain.aio)
                except Exception as error:
                    raise ConnectionResetError(f"{type(error).__name__}: {error}") from error
                self._broken = False

    async def end_input(self) -> None:
        """End the program's stdin. Ignores what fails: the program has ended, or cannot be reached."""
        async with self._writing:
            with suppress(Exception):
                self._process.stdin.write_eof()  # goes out with the drain
                await self._calls.once("ending input", self._process.stdin.drain.aio)

    async def receive(self) -> bytes:
        """Return the next bytes, ``b""`` at the end. ConnectionResetError when the worker is lost."""
        data: bytes | None = b""
        while data == b"":
            try:
                data = await bridged(self._next)
            except Exception as error:
                # The client has resumed by offset as often as it does: the worker is not there.
                raise ConnectionResetError(f"{type(error).__name__}: {error}") from error
        return data or b""

    async def wait(self) -> int:
        """Return the exit code. The client would ask for ever when the worker is gone."""
        code = await self._calls.once("waiting for the end of a program", self._process.wait.aio)
        with anyio.move_on_after(CLOSING):
            await asyncio.wait([self._listening])
        return code

    async def aclose(self) -> None:
        """End the program's stdin, at which a ``dial`` program ends: Modal cannot kill it. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._listening.cancel()
        with anyio.move_on_after(CLOSING, shield=True):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.end_input)
                tasks.start_soon(self._let_go)
                tasks.start_soon(asyncio.wait, [self._listening])

    async def _let_go(self) -> None:
        stream: Any = self._process.stdout  # typed in part
        with suppress(Exception):
            await bridged(stream.aclose)

    async def _listen(self) -> None:
        with suppress(Exception):
            async for data in self._process.stderr:
                self.stderr = (self.stderr + data)[-_KEPT:]

    async def _next(self) -> bytes | None:
        if self._output is None:
            self._output = aiter(self._process.stdout)
        try:
            return await anext(self._output)
        except StopAsyncIteration:
            return None
        except BaseException:
            self._output = None  # it ends with what ends in it; another one goes on where it was
            raise


async def open_command(
    calls: BridgedCalls,
    sandbox: modal.Sandbox,
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    within: float | None = None,
) -> ExecCommand:
    """Start a program."""
    # No timeout of Modal's: at its end stdout ends without an error. ``text=False``: bytes stay bytes.
    process = await calls.once(
        f"starting a program in sandbox {sandbox.object_id}",
        lambda: sandbox.exec.aio(*argv, env=dict(env), stderr=StreamType.PIPE, text=False),
        within=within,
    )
    return ExecCommand(process, calls)
