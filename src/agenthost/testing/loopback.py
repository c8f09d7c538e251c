"""A small HTTP/1.1 server on loopback, for servers that play someone else's API in tests.

It knows what real clients do: keep-alive, bodies with a length or in chunks, ``Expect: 100-continue``, bodies
that go on while they are answered, and clients that go away in the middle of an answer.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.stapled import MultiListener

from agenthost.background import BackgroundTasks

_log = logging.getLogger("agenthost.testing")

_HEAD_LIMIT = 256 * 1024
_BODY_LIMIT = 64 * 1024 * 1024
_READ_SIZE = 256 * 1024
_JSON = {"content-type": "application/json"}
_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError)


class ClientGoneError(Exception):
    """The client closed the connection, or the handler wants it closed."""


class BadRequestError(Exception):
    """What the client sent is not HTTP/1.1, or too large."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One request with its whole body, or with none of it yet where it is taken in pieces.

    Header names are in lower case, the values of repeated ones are joined by a comma.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class _Incoming:
    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    async def until(self, end: bytes, limit: int) -> bytes:
        searched = 0
        while (found := self._buffer.find(end, searched)) < 0:
            if len(self._buffer) > limit:
                raise BadRequestError(431, f"no end of the head within {limit} bytes")
            searched = max(0, len(self._buffer) - len(end))
            self._buffer += await self.stream.receive(_READ_SIZE)
        data = bytes(self._buffer[:found])
        del self._buffer[: found + len(end)]
        return data

    async def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._buffer += await self.stream.receive(_READ_SIZE)
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def ended(self) -> None:
        """Return when the client has closed its side. What it sends until then is kept."""
        try:
            while True:
                self._buffer += await self.stream.receive(_READ_SIZE)
        except _GONE:
            return


class Exchange:
    """One request and the answer to it."""

    def __init__(self, request: HttpRequest, incoming: _Incoming, *, is_streamed: bool = False) -> None:
        self.request = request
        self.incoming = incoming
        self._state = "waiting"
        self._unread = is_streamed

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield the body as it comes, of a request that is taken in pieces."""
        async for piece in _body_pieces(self.incoming, self.request.headers):
            yield piece
        self._unread = False

    async def reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Answer with a complete body. The answer to HEAD has none."""
        await self._send_head(status, {**(headers or {}), "content-length": str(len(body))}, body)
        self._state = "done"

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head of an answer in chunks."""
        await self._send_head(status, {**headers, "transfer-encoding": "chunked"}, b"")
        self._state = "streaming"

    async def write(self, data: bytes) -> None:
        """Send one chunk. Waits while the client does not read."""
        if data:
            await self.incoming.stream.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def finish(self) -> None:
        """End an answer in chunks."""
        await self.incoming.stream.send(b"0\r\n\r\n")
        self._state = "done"

    async def client_gone(self) -> None:
        """Return when the client has closed the connection."""
        await self.incoming.ended()

    @property
    def answered(self) -> bool:
        """True when a complete answer was sent, and nothing of the request is left on the way."""
        return self._state == "done" and not self._unread

    @property
    def started(self) -> bool:
        """True when a head was sent."""
        return self._state != "waiting"

    async def _send_head(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = "Unknown"  # 529 is the API's own
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        await self.incoming.stream.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


class LoopbackServer:
    """Serves HTTP/1.1 on 127.0.0.1 at a free port while its block is open.

    A handler that raises ClientGoneError, or returns without a complete answer, closes its connection. Any
    other exception of a handler is logged and answered with status 500; other requests are not affected.
    Leaving the block closes all connections.

    Args:
        handler: Answers each request.
        in_pieces: Says of a request without its body whether the handler takes that by ``pieces``.
    """

    def __init__(
        self,
        handler: Callable[[Exchange], Awaitable[None]],
        *,
        in_pieces: Callable[[HttpRequest], bool] | None = None,
    ) -> None:
        self._handler = handler
        self._in_pieces = in_pieces
        self._tasks = BackgroundTasks()
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self._tasks.open()
        try:
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        except BaseException:
            await self._tasks.aclose()
            raise
        self.port = listener.extra(SocketAttribute.local_port)
        self._tasks.start_soon(self._serve, listener)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tasks.__aexit__(exc_type, exc, trace)

    async def _serve(self, listener: MultiListener[SocketStream]) -> None:
        async with listener:
            await listener.serve(self._connection)

    async def _connection(self, stream: SocketStream) -> None:
        async with stream:
            incoming = _Incoming(stream)
            try:
                while True:
                    exchange = await self._next(incoming)
                    await self._handle(exchange)
                    if not exchange.answered:
                        return
            except BadRequestError as error:
                text = str(error).encode()
                head = (
                    f"HTTP/1.1 {error.status} Bad Request\r\ncontent-length: {len(text)}\r\nconnection: close"
                )
                with anyio.move_on_after(5):  # a client that reads nothing must not keep the task
                    await stream.send(head.encode() + b"\r\n\r\n" + text)
            except (ClientGoneError, *_GONE):
                return

    async def _handle(self, exchange: Exchange) -> None:
        try:
            await self._handler(exchange)
        except (BadRequestError, ClientGoneError, *_GONE):
            raise
        except Exception:  # noqa: BLE001 - one request must not end the server; it is logged and answered
            path = exchange.request.target.partition("?")[0]
            _log.exception("the handler failed for %s %s", exchange.request.method, path)
            if exchange.started:
                raise ClientGoneError from None  # a second head cannot be sent
            await exchange.reply(500, b'{"code": 500, "message": "internal error"}', _JSON)

    async def _next(self, incoming: _Incoming) -> Exchange:
        head = await _read_head(incoming)
        if self._in_pieces is not None and self._in_pieces(head):
            return Exchange(head, incoming, is_streamed=True)
        body = bytearray()
        async for piece in _body_pieces(incoming, head.headers):
            if len(body) + len(piece) > _BODY_LIMIT:
                raise BadRequestError(413, f"the body is larger than {_BODY_LIMIT} bytes")
            body += piece
        return Exchange(replace(head, body=bytes(body)), incoming)


async def _read_head(incoming: _Incoming) -> HttpRequest:
    head = (await incoming.until(b"\r\n\r\n", _HEAD_LIMIT)).decode("latin-1")
    first, *lines = head.split("\r\n")
    try:
        method, target, _version = first.split(" ")
    except ValueError:
        raise BadRequestError(400, f"{first[:80]!r} is no request line") from None
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if headers.get("expect", "").lower() == "100-continue":
        await incoming.stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    return HttpRequest(method=method, target=target, headers=headers, body=b"")


async def _body_pieces(incoming: _Incoming, headers: Mapping[str, str]) -> AsyncGenerator[bytes]:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        while size := _number(await incoming.until(b"\r\n", 1024), 16):
            _check_size(size)
            yield await incoming.exactly(size)
            await incoming.until(b"\r\n", 2)
        while await incoming.until(b"\r\n", _HEAD_LIMIT):
            pass  # trailers say nothing that matters here
        return
    size = _number(headers.get("content-length", "0").encode(), 10)
    _check_size(size)
    if size:
        yield await incoming.exactly(size)


def _check_size(size: int) -> None:
    if size > _BODY_LIMIT:
        raise BadRequestError(413, f"the body is larger than {_BODY_LIMIT} bytes")


def _number(text: bytes, base: int) -> int:
    try:
        number = int(text.partition(b";")[0], base)
    except ValueError:
        number = -1
    if number < 0:
        raise BadRequestError(400, f"{text[:40]!r} is no size")
    return number
