"""One connection to the guest's port, from a host, from a vendor's edge or from a stranger."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from agenthost.guest.http.request import HEAD_LIMIT, BadRequestError, Body, Request, parse_head

if TYPE_CHECKING:
    from agenthost.guest.http.port import Port

SENDING = 10.0  # seconds in which a head, or a body, has to arrive
IDLE = 75.0  # seconds that a connection stays open between two requests
_LEAVING = 2.0  # seconds that a client has to close after its last answer
_HIGH = 512 * 1024  # unsent bytes above which no more is written

# The one answer to whatever is not admitted.
REFUSAL = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_REASONS = {200: b"200 OK", 204: b"204 No Content", 409: b"409 Conflict"}
# Nothing between may keep, change or hold back what is sent.
_PLAIN = (
    b"content-type: application/octet-stream\r\ncache-control: no-store, no-transform\r\n"
    b"x-accel-buffering: no\r\n"
)


class Connection(asyncio.Protocol):
    """Reads requests one after the other; the port decides about each.

    Attributes:
        admitted: Whether an admitted request is being read or answered: such a connection is not closed
            in favour of another.
    """

    def __init__(self, port: Port) -> None:
        self.admitted = False
        self.is_full = False
        self._port = port
        self._buffer = bytearray()
        self._request: Request | None = None  # whose body is being read, or which is being answered
        self._body: Body | None = None
        self._leaving = False
        self._due = time.monotonic() + SENDING
        self._transport: asyncio.Transport | None = None

    # ---- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_HIGH)
        self._port.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._port.lost(self)

    def data_received(self, data: bytes) -> None:
        if self._leaving:
            return
        if not self._buffer and self._request is None:
            self._due = time.monotonic() + SENDING
        self._buffer += data
        if self._request is None or self._body is not None:
            self._advance()
        elif len(self._buffer) > HEAD_LIMIT:  # the client has not waited for the answer
            self.abort()

    def eof_received(self) -> None:
        """Close: a client that sends no more takes no answer either."""

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        self._port.drained(self)

    # ---- called by the port

    def answer(self, status: int, body: bytes = b"") -> None:
        """Send a complete answer."""
        # An answer of 204 has no body, and so no length.
        length = b"" if status == 204 else b"content-length: %d\r\n" % len(body)
        self._write(b"HTTP/1.1 %b\r\n%b%b\r\n%b" % (_REASONS[status], _PLAIN, length, body))
        self._answered()

    def start(self) -> None:
        """Begin an answer in chunks."""
        self._write(b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n" % _PLAIN)

    def write(self, data: bytes) -> None:
        """Send one chunk."""
        self._write(b"%x\r\n%b\r\n" % (len(data), data))

    def finish(self) -> None:
        """End an answer in chunks."""
        self._write(b"0\r\n\r\n")
        self._answered()

    def refuse(self) -> None:
        """Send the answer that everything gets which is not admitted, and close."""
        self._write(REFUSAL)
        self._leave()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def tick(self, now: float) -> None:
        """Close when the client takes too long."""
        if now < self._due or (self._request is not None and self._body is None):
            return
        if self._leaving or not self._buffer:
            self.abort()
        else:
            self.refuse()

    # ---- inside

    def _advance(self) -> None:
        try:
            if self._request is None:
                end = self._buffer.find(b"\r\n\r\n", 0, HEAD_LIMIT)
                if end < 0:
                    if len(self._buffer) >= HEAD_LIMIT:
                        raise BadRequestError
                    return
                request = parse_head(bytes(self._buffer[:end]))
                del self._buffer[: end + 4]
                self._port.admit(request)
                self.admitted, self._request = True, request
                self._body = Body(request.length)
                self._due = time.monotonic() + SENDING
            assert self._body is not None
            body = self._body.feed(self._buffer)
            if body is not None:
                self._body = None
                self._port.answer(self, self._request, body)
        except BadRequestError:
            self.refuse()

    def _answered(self) -> None:
        request, self._request = self._request, None
        self.admitted = False
        self._due = time.monotonic() + IDLE
        if request is None or not request.keep_alive:
            self._leave()
        elif self._buffer:
            asyncio.get_running_loop().call_soon(self._advance)

    def _leave(self) -> None:
        """Have the client close: closed at once, with bytes unread, the last answer might not reach it."""
        self._leaving, self.admitted = True, False
        self._buffer.clear()
        self._due = time.monotonic() + _LEAVING
        self._request = self._body = None
        if self._transport is not None:
            self._transport.write_eof()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
