"""A program's stdin and stdout as a carrier, by Modal's exec: ``guest dial`` for the whole link."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from agenthost.errors import AgentHostError
from agenthost.providers.modal.calls import Caller, bridged
from agenthost.providers.modal.errors import VENDOR_ERRORS

if TYPE_CHECKING:
    from modal.container_process import ContainerProcess

    from agenthost.providers.modal.settings import Times

# A carrier is renewed after so much: what the worker keeps of a program's output is not known.
RENEW_BYTES = 64 * 1024 * 1024
RENEW_SECONDS = 3600.0
_PIECE = 4 * 1024 * 1024  # bytes of one write; the client's buffer takes 16 MiB


class ExecCarrier:
    """Bytes, and no pty: Modal's text mode breaks at the first byte that is no UTF-8."""

    binary = True

    def __init__(self, process: ContainerProcess[bytes], calls: Caller, times: Times) -> None:
        self._process = process
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
                except (AgentHostError, ValueError, BufferError) as error:
                    raise ConnectionResetError(str(error)) from error
                self._broken = False

    async def receive(self) -> bytes:
        """Return the next bytes, ``b""`` at the end or when it is time for another carrier."""
        if self._received >= RENEW_BYTES or anyio.current_time() > self._end:
            return b""
        data: bytes | None = b""
        while data == b"":
            try:
                data = await bridged(self._next)
            except VENDOR_ERRORS as error:
                # The client has resumed by offset as often as it does: the worker is not there.
                raise ConnectionResetError(f"{type(error).__name__}: {error}") from None
        if data is None:
            return b""
        self._received += len(data)
        return data

    async def aclose(self) -> None:
        """End the program's stdin, at which it ends: Modal cannot kill it. Idempotent."""
        if self._closed:
            return
        self._closed = True
        with anyio.CancelScope(shield=True), suppress(AgentHostError, ValueError, BufferError):
            self._process.stdin.write_eof()
            await self._calls.once("end input", self._times.close, self._process.stdin.drain.aio)
            await self._calls.once("let go of output", self._times.close, self._let_go)

    async def _let_go(self) -> None:
        stream: Any = self._process.stdout  # typed in part
        await stream.aclose()

    async def _next(self) -> bytes | None:
        try:
            return await self._process.stdout.__anext__()
        except StopAsyncIteration:
            return None
