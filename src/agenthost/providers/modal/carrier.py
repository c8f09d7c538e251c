"""A program's stdin and stdout as a carrier, by Modal's exec: ``guest dial`` for the whole link."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from agenthost.providers.modal.calls import Caller, bridged

if TYPE_CHECKING:
    from modal.container_process import ContainerProcess

    from agenthost.providers.modal.settings import Times

# A carrier is renewed after so much: what the worker keeps of a program's output is not known.
RENEW_BYTES = 64 * 1024 * 1024
RENEW_SECONDS = 3600.0
_NO_GUEST = b"the guest does not answer"  # of the ``dial`` program
_PIECE = 4 * 1024 * 1024  # bytes of one write; the client's buffer takes 16 MiB


class ExecCarrier:
    """Bytes, and no pty: Modal's text mode breaks at the first byte that is no UTF-8.

    Whatever Modal's client raises ends this carrier, and never the link: another one is dialled.

    Attributes:
        refused: The program found no guest in the sandbox.
    """

    binary = True

    def __init__(self, process: ContainerProcess[bytes], calls: Caller, times: Times) -> None:
        self.refused = False
        self._process = process
        self._output: AsyncIterator[bytes] | None = None
        self._calls = calls
        self._times = times
        # Of two drains at once one sends the other's bytes again, and a write during a drain is lost.
        self._writing = anyio.Lock()
        self._received = 0
        self._end = anyio.current_time() + RENEW_SECONDS
        self._closed = False
        self._broken = False

    async def send(self, data: bytes) -> None:
        """Send all bytes. ConnectionResetError when they could not be, or not in time."""
        async with self._writing:
            for begin in range(0, len(data), _PIECE):
                if self._closed or self._broken:
                    raise ConnectionResetError("the carrier has ended")
                # Whoever is cut short in a drain does not know what has arrived: nothing may follow.
                self._broken = True
                try:
                    self._process.stdin.write(data[begin : begin + _PIECE])
                    await self._calls.once("take input", self._times.send, self._process.stdin.drain.aio)
                except Exception as error:
                    raise ConnectionResetError(f"{type(error).__name__}: {error}") from error
                self._broken = False

    async def receive(self) -> bytes:
        """Return the next bytes, ``b""`` at the end or when it is time for another carrier."""
        if self._received >= RENEW_BYTES or anyio.current_time() > self._end:
            return b""
        data: bytes | None = b""
        while data == b"":
            try:
                data = await bridged(self._next)
            except Exception as error:
                # The client has resumed by offset as often as it does: the worker is not there.
                raise ConnectionResetError(f"{type(error).__name__}: {error}") from error
        if data is None:
            if not self._received:
                await self._look_why()
            return b""
        self._received += len(data)
        return data

    async def aclose(self) -> None:
        """End the program's stdin, at which it ends: Modal cannot kill it. Idempotent."""
        if self._closed:
            return
        self._closed = True
        with anyio.move_on_after(self._times.close, shield=True):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._end_input)
                tasks.start_soon(self._let_go)

    async def _end_input(self) -> None:
        async with self._writing:
            with suppress(Exception):  # it has ended, or nobody can reach it
                self._process.stdin.write_eof()
                await bridged(self._process.stdin.drain.aio)

    async def _let_go(self) -> None:
        stream: Any = self._process.stdout  # typed in part
        with suppress(Exception):
            await bridged(stream.aclose)

    async def _look_why(self) -> None:
        with suppress(Exception):
            said = await self._calls.once(
                "tell what a program said", self._times.close, self._process.stderr.read.aio
            )
            self.refused = _NO_GUEST in said

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
