"""The model endpoint: a loopback port that hands each request to the host, over the link."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

from agenthost.guest.lobby import HEAD_SECONDS, IDLE_SECONDS, Lobby
from agenthost.guest.spool import DiskSpool
from agenthost.wire.guest import GuestHub
from agenthost.wire.settings import KIB, MIB
from agenthost.wire.streams import RecvStream, SendStream

_HEAD = 64 * KIB  # longest request head
_BODY = 64 * MIB  # longest request body; the Messages API itself takes 32 MB
_CHUNK = 256 * KIB
_AT_ONCE = 64  # requests of one agent under way; the CLI with its subagents has a handful
# Connections that are taken before what has come on the others is read, so that a flood does not close an
# agent's in whose queue its head lies already; and those that wait in the kernel meanwhile.
_ACCEPTED_AT_ONCE = 16
_BACKLOG = 128
_LINGER = 5.0  # seconds that what an agent still sends is read after it was refused
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NO_BODY = (204, 304)
# The last event of the Messages API's stream: behind it comes nothing but the body's end.
_LAST_EVENT = re.compile(rb"\nevent: message_stop\r?\ndata:[^\n]*\n\r?\n$")
_TAIL = 256  # bytes that the last event takes at most, with the spaces that the API pads it with
# They belong to one connection, or are the credential that must not leave.
_DROPPED = frozenset(
    [
        *("authorization", "connection", "content-length", "expect", "host", "keep-alive"),
        *("proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "x-api-key"),
    ]
)


class BadRequestError(Exception):
    """What came is no HTTP request that this endpoint takes."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Connection(asyncio.StreamReaderProtocol):
    """Streams, and a word when the agent hangs up while an answer is under way.

    Between two requests it is in the lobby, where it may wait for a time and makes room for others.
    """

    def __init__(
        self,
        serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
        lobby: Lobby[_Connection],
    ) -> None:
        super().__init__(asyncio.StreamReader(limit=_HEAD), serve)
        self._lobby = lobby
        self._raw: asyncio.BaseTransport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._is_idle = False
        self._on_gone: Callable[[], None] | None = None
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request, in the lobby."""
        self._raw = transport
        super().connection_made(transport)
        self.wait_for_head(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Take bytes. With the first ones of a request its head is due."""
        if self._deadline is not None and self._is_idle:
            self.wait_for_head(HEAD_SECONDS)
        super().data_received(data)

    def wait_for_head(self, seconds: float) -> None:
        """Close the connection unless the head of a request has come by then, and its key was right."""
        self.proven()
        loop = asyncio.get_running_loop()
        self._is_idle = seconds == IDLE_SECONDS
        self._deadline = loop.call_later(seconds, self.abort)
        self._lobby.enter(self, loop.time())

    def proven(self) -> None:
        """Leave the lobby: this is an agent's."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._lobby.leave(self)

    def abort(self) -> None:
        """Close it at once."""
        if isinstance(self._raw, asyncio.Transport):
            self._raw.abort()

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Call ``on_gone`` when the other end has closed, now if it has."""
        self._on_gone = on_gone
        if self._gone:
            on_gone()

    def eof_received(self) -> bool | None:
        """The agent closed: an HTTP client does not half-close."""
        self._hang_up()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection broke."""
        self.proven()
        self._hang_up()
        super().connection_lost(exc)

    def _hang_up(self) -> None:
        self._gone = True
        if self._on_gone is not None:
            self._on_gone()


class ModelEndpoint:
    """An HTTP/1.1 server on loopback. Each agent has a key of its own; without it nothing passes."""

    def __init__(self, hub: GuestHub, spool_dir: str) -> None:
        self._hub = hub
        self._spool_dir = spool_dir
        self._keys: dict[str, str] = {}
        self._exchanges: dict[str, Exchange] = {}  # by the sid of the answer
        self._next = 1
        self._lobby: Lobby[_Connection] = Lobby()
        self._server: asyncio.base_events.Server | None = None
        self.port = 0

    async def listen(self, bound: socket.socket | None = None) -> None:
        """Listen on a free port of 127.0.0.1, or on a socket that has one already."""
        loop = asyncio.get_running_loop()
        if bound is None:
            bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            bound.bind(("127.0.0.1", 0))
        self._server = await loop.create_server(
            lambda: _Connection(self._connection, self._lobby), sock=bound, backlog=_ACCEPTED_AT_ONCE
        )
        bound.listen(_BACKLOG)
        self.port = bound.getsockname()[1]

    def add_agent(self, agent: str, key: str) -> None:
        """Let an agent in by this key."""
        self._keys[agent] = key

    def remove_agent(self, agent: str) -> None:
        """Let it in no more, and cut what it has open."""
        self._keys.pop(agent, None)
        for exchange in list(self._exchanges.values()):
            if exchange.agent == agent:
                exchange.cut()
                exchange.close()  # now, while the agent's driver is known and can be told

    def received(self, sid: str, data: bytes) -> bool:
        """Take bytes of an answer; False when the stream is none of ours."""
        exchange = self._exchanges.get(sid)
        if exchange is not None:
            exchange.received(data)
        return exchange is not None

    def ended(self, sid: str) -> bool:
        """Take note that an answer is complete."""
        exchange = self._exchanges.get(sid)
        if exchange is not None:
            exchange.received(b"")
        return exchange is not None

    def cut(self, agent: str, sid: str) -> None:
        """Cut an exchange whose answer broke on the host's side."""
        exchange = self._exchanges.get(sid)
        if exchange is not None and exchange.agent == agent:
            exchange.cut()

    def driver_changed(self, agent: str) -> int:
        """Cut the answers that the old driver had begun: the rest of them died with it. Returns how many.

        One that lacks nothing but its end is ended: whoever has read its last event asks no more.
        """
        repeated = 0
        for exchange in list(self._exchanges.values()):
            if exchange.agent != agent or not exchange.is_begun:
                continue
            if exchange.is_whole:
                exchange.received(b"")
            else:
                exchange.cut()
                repeated += 1
            exchange.close()  # now: the new driver must not take it up while the agent still reads
        return repeated

    def serves(self, agent: str) -> bool:
        """Return whether this agent asks the model over the link."""
        return agent in self._keys

    def waits(self, agent: str) -> bool:
        """Return whether a request of this agent has no answer yet."""
        return any(one.agent == agent and not one.answer.offset for one in self._exchanges.values())

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.transport.get_protocol()
        assert isinstance(connection, _Connection)
        try:
            while await self._request(reader, writer, connection):
                await writer.drain()
                connection.wait_for_head(IDLE_SECONDS)
        except BadRequestError as exc:
            connection.wait_for_head(_LINGER)  # whatever its key: there may be many of these
            _respond(writer, exc.status, str(exc))
            await _linger(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the agent closed the connection, or the guest ends
        finally:
            writer.close()

    async def _request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: _Connection
    ) -> bool:
        """Serve one request; False when the connection must end."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as exc:
            raise BadRequestError(431, f"a request head is longer than {_HEAD} bytes") from exc
        except asyncio.IncompleteReadError as exc:
            if exc.partial:
                raise
            return False
        method, path, headers = _parse_head(head)
        agent = self._agent_of(headers)
        if agent is None:
            raise BadRequestError(401, "this model endpoint takes only the agent's own key")
        connection.proven()
        length = _length(headers)
        if sum(exchange.agent == agent for exchange in self._exchanges.values()) >= _AT_ONCE:
            raise BadRequestError(429, f"an agent has more than {_AT_ONCE} model requests under way")
        number, self._next = self._next, self._next + 1
        exchange = Exchange(self._hub, agent, number, self._spool_dir, self._forget)
        self._exchanges[exchange.answer.sid] = exchange
        try:
            if headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            kept = [[name, value] for name, value in headers.items() if name not in _DROPPED]
            await exchange.ask({"method": method, "path": path, "headers": kept}, _body(reader, length))
            connection.watch(exchange.cut)
            whole = await exchange.pass_on(writer, head_only=method == "HEAD")
            return whole and "close" not in headers.get("connection", "").lower()
        finally:
            exchange.close()

    def _forget(self, sid: str) -> None:
        self._exchanges.pop(sid, None)

    def _agent_of(self, headers: dict[str, str]) -> str | None:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        shown = headers.get("x-api-key") or (bearer if scheme.lower() == "bearer" else "")
        found = None
        for agent, key in self._keys.items():  # all of them, so that time tells nothing
            if hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), key.encode()):
                found = agent
        return found


class Exchange:
    """One request and its answer: two streams of the link. Both begin with a line of JSON, the head."""

    def __init__(
        self, hub: GuestHub, agent: str, number: int, spool_dir: str, forget: Callable[[str], None]
    ) -> None:
        self.agent = agent
        self._hub = hub
        self._forget = forget
        name = f"a/{agent}/m/{number}"
        self._request = SendStream(f"{name}/q", bound=_BODY + _HEAD, spool=DiskSpool(spool_dir))
        self.answer = RecvStream(f"{name}/r", offset=0, window=hub.settings.window)
        self._arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._tail = b""
        self._over = False

    @property
    def is_begun(self) -> bool:
        """Whether some of the answer has arrived, and neither its end nor its cut."""
        return bool(self.answer.offset) and not self._over

    @property
    def is_whole(self) -> bool:
        """Whether the answer's last event has arrived. One that is compressed does not show it."""
        return _LAST_EVENT.search(self._tail) is not None

    async def ask(self, head: dict[str, Any], body: AsyncIterator[bytes]) -> None:
        """Write the request to its stream. The host hears of it at its head."""
        self._request.write(json.dumps(head).encode() + b"\n")
        self._hub.add_stream(self._request, agent=self.agent)
        self._hub.offer(self.agent, self._request.sid, {"answer": self.answer.sid}, self.answer)
        size = 0
        async for data in body:
            size += len(data)
            _check_size(size)
            try:
                self._request.write(data)
            except OSError as exc:
                raise BadRequestError(507, f"a request body could not be kept: {exc.strerror}") from exc
        self._request.end()

    def received(self, data: bytes) -> None:
        """Take bytes of the answer; none is its end."""
        self._tail = (self._tail + data)[-_TAIL:]
        self._over = self._over or not data
        self._arrived.put_nowait(data)

    def cut(self) -> None:
        """Break the answer off: the agent sees a closed connection and asks again by itself."""
        self._over = True
        self._arrived.put_nowait(None)

    async def pass_on(self, writer: asyncio.StreamWriter, *, head_only: bool) -> bool:
        """Pass the answer on as it comes; False when the connection must end."""
        first = b""
        while b"\n" not in first:
            data = await self._arrived.get()
            if not data:
                return False
            first += data
        line, _, rest = first.partition(b"\n")
        head = json.loads(line)
        status = int(head["status"])
        lines = [f"HTTP/1.1 {status} Answer"]
        for name, value in head["headers"]:
            if name.lower() not in _DROPPED and not re.search(r"[\r\n\0]", name + value):
                lines.append(f"{name}: {value}")
        chunked = not head_only and status not in _NO_BODY
        if chunked:
            lines.append("transfer-encoding: chunked")
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        self._hub.consumed(self.answer, len(line) + 1)
        piece: bytes | None = rest
        while True:
            if piece:
                if chunked:
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await writer.drain()
                self._hub.consumed(self.answer, len(piece))
            piece = await self._arrived.get()
            if piece is None:
                return False
            if not piece:
                break
        if chunked:
            writer.write(b"0\r\n\r\n")
        return True

    def close(self) -> None:
        """Be done with both streams."""
        self._forget(self.answer.sid)
        self._hub.withdraw(self.agent, self._request.sid, self.answer.sid)
        self._request.stop()


def _parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1")[:-4].split("\r\n")
    method, path, version = (*first.split(" "), "", "")[:3]
    if not _TOKEN.fullmatch(method) or not re.fullmatch(r"/[!-~]*", path) or first.count(" ") != 2:
        raise BadRequestError(400, "this is not an HTTP request for a path")
    if version != "HTTP/1.1":
        raise BadRequestError(505, "this model endpoint speaks HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if not _TOKEN.fullmatch(name) or re.search(r"[\r\n\0]", value):
            raise BadRequestError(400, "a header is malformed")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return method, path, headers


def _length(headers: dict[str, str]) -> int | None:
    """Return how long the body will be, None when it comes in chunks."""
    if "transfer-encoding" not in headers:
        size = _number(headers.get("content-length", "0").encode(), 10)
        _check_size(size)
        return size
    if headers["transfer-encoding"].lower() != "chunked" or "content-length" in headers:
        raise BadRequestError(400, "a request body has a length or is chunked")
    return None


def _check_size(size: int) -> None:
    if size > _BODY:
        raise BadRequestError(413, f"a request body is longer than {_BODY} bytes")


async def _body(reader: asyncio.StreamReader, length: int | None) -> AsyncIterator[bytes]:
    if length is not None:
        async for data in _exactly(reader, length):
            yield data
        return
    while size := _number(await _line(reader), 16):
        async for data in _exactly(reader, size):
            yield data
        if await reader.readexactly(2) != b"\r\n":
            raise BadRequestError(400, "a chunk does not end where it should")
    while (await _line(reader)).strip():
        pass  # trailers: nothing in them is ours


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError as exc:
        raise BadRequestError(400, "a line of a chunked body is too long") from exc


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    while size > 0:
        data = await reader.read(min(size, _CHUNK))
        if not data:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(data)
        yield data


def _number(text: bytes, base: int) -> int:
    digits = text.split(b";")[0].strip()
    try:
        return int(digits if digits.isalnum() else b"", base)
    except ValueError as exc:
        raise BadRequestError(400, "a body's size is not a number") from exc


def _respond(writer: asyncio.StreamWriter, status: int, message: str) -> None:
    kind = "authentication_error" if status == 401 else "invalid_request_error"
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    writer.write(
        f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\nconnection: close\r\n"
        f"content-length: {len(body)}\r\n\r\n".encode()
        + body
    )


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read what the agent still sends: to close on it would take the answer away before it was read."""

    async def discard() -> None:
        while await reader.read(_CHUNK):
            pass

    writer.write_eof()
    with contextlib.suppress(asyncio.TimeoutError, ConnectionError):
        await asyncio.wait_for(discard(), _LINGER)
