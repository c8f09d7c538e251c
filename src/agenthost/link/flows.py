"""Streams of a link as the host's code sees them: something to await."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from agenthost.link.pieces import Pieces
from agenthost.wire.frames import Data
from agenthost.wire.host import HostLink
from agenthost.wire.streams import SendStream

_PIECE = 256 * 1024  # bytes written at once, so that a large write waits for room in between


class Failure:
    """Why a link carries nothing any more; shared by all that waits on it."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def check(self) -> None:
        """Raise the error if there is one."""
        if self.error is not None:
            raise self.error


class Inflow:
    """A stream from the guest. One reader at a time.

    With ``auto_ack`` what was handed out will not be asked for again; otherwise ``acknowledge`` says so.
    """

    def __init__(
        self, link: HostLink, sid: str, failure: Failure, *, offset: int | None, auto_ack: bool
    ) -> None:
        self.sid = sid
        self._link = link
        self._failure = failure
        self._auto_ack = auto_ack
        self._pieces = Pieces()
        self._news = anyio.Event()
        self._ended = False
        self._error: Exception | None = None
        self._stream = link.subscribe(sid, offset=offset)
        # What its reader gets when the guest no longer has it; None is GuestLostError.
        self.missing: Exception | None = None
        # With a sink bytes go there as they arrive, and nobody reads.
        self.sink: Callable[[Data], None] | None = None

    async def receive(self) -> bytes:
        """Return the next bytes as soon as they are there, ``b""`` at the end."""
        while not self._pieces:
            if self._ended:
                return b""
            if self._error is not None:
                raise self._error
            self._failure.check()
            await self._news.wait()
        data = self._pieces.popleft()
        self._link.consume(self.sid, len(data))
        if self._auto_ack:
            self._link.acknowledge(self.sid, self._stream.consumed)
        return data

    @property
    def consumed(self) -> int:
        """Offset behind what was handed out."""
        return self._stream.consumed

    async def wait_readable(self) -> None:
        """Return when ``receive`` does not wait."""
        while not self._pieces and not self._ended and self._error is None and self._failure.error is None:
            await self._news.wait()

    async def wait_ended(self) -> None:
        """Return when all bytes have gone to the sink."""
        while not self._ended:
            if self._error is not None:
                raise self._error
            self._failure.check()
            await self._news.wait()

    def acknowledge(self, offset: int) -> None:
        """Say that everything below ``offset`` will never be asked for again."""
        self._link.acknowledge(self.sid, offset)

    def close(self) -> None:
        """Want no more of it. Who still waits for it gets ClosedResourceError."""
        self._link.unsubscribe(self.sid)
        if not self._ended:
            self._pieces.clear()
            self.fail(self._failure.error or anyio.ClosedResourceError())

    # ---- for the session

    def feed(self, data: Data) -> None:
        """Bytes have arrived."""
        if self.sink is not None:
            self.sink(data)
            self._link.consume(self.sid, len(data))
            self._link.acknowledge(self.sid, self._stream.consumed)
        else:
            self._pieces.append(data)
            self.wake()

    def end(self) -> None:
        """It has ended."""
        self._ended = True
        self.wake()

    def fail(self, error: Exception) -> None:
        """It cannot go on."""
        if self._error is None:
            self._error = error
        self.wake()

    def wake(self) -> None:
        """Have the reader look again."""
        news, self._news = self._news, anyio.Event()
        news.set()


class Outflow:
    """A stream to the guest. Waits while the other end does not read."""

    def __init__(self, link: HostLink, sid: str, failure: Failure, *, base: int = 0) -> None:
        self.sid = sid
        self._link = link
        self._failure = failure
        self._room = anyio.Event()
        self._error: Exception | None = None
        self._stream: SendStream = link.send_stream(sid, base=base)
        self._stream.on_room = self.wake

    async def send(self, data: bytes) -> None:
        """Write all bytes; returns when they are buffered.

        Raises:
            BrokenPipeError: The reader wants no more.
        """
        for start in range(0, len(data), _PIECE):
            while self._stream.room <= 0 and not self._stream.stopped:
                self._check()
                await self._room.wait()
            self._check()
            if self._stream.stopped:
                raise BrokenPipeError(32, f"the reader of {self.sid} has closed it")
            self._stream.write(data[start : start + _PIECE])

    def write_now(self, data: bytes) -> None:
        """Write without waiting: for what is in memory as a whole anyway."""
        self._stream.write(data)

    async def flushed(self) -> None:
        """Return when the guest has every byte, or wants no more."""
        while self._stream.acked < self._stream.end_offset and not self._stream.stopped:
            self._check()
            await self._room.wait()

    def end(self) -> None:
        """Say that no more comes. Idempotent."""
        self._stream.end()

    def close(self) -> None:
        """Send nothing more, not even what was not sent yet. Who still writes gets ClosedResourceError."""
        self._link.drop_send_stream(self.sid)
        self.fail(self._failure.error or anyio.ClosedResourceError())

    def fail(self, error: Exception) -> None:
        """It cannot go on."""
        if self._error is None:
            self._error = error
        self.wake()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        self._failure.check()

    def wake(self) -> None:
        """Have the writer look again."""
        room, self._room = self._room, anyio.Event()
        room.set()
