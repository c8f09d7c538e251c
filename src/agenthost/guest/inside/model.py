"""The model endpoint: a loopback port that hands each request to the host, over the link."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from agenthost.guest.inside.spool import DiskSpool
from agenthost.wire.guest import GuestHub
from agenthost.wire.settings import KIB, MIB
from agenthost.wire.streams import RecvStream, SendStream

_HEAD = 64 * KIB  # longest request head
_BODY = 64 * MIB  # longest request body; the Messages API itself takes 32 MB
_CHUNK = 256 * KIB
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
    """Streams, and a word when the agent hangs up while an answer is under way."""

    def __init__(self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> None:
        super().__init__(asyncio.StreamReader(limit=_HEAD), serve)
        self._on_gone: Callable[[], None] | None = None
        self._gone = False

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
        self._server: asyncio.base_events.Server | None = None
        self.port = 0

    async def listen(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self._connection), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def add_agent(self, agent: str, key: str) -> None:
        """Let an agent in by this key."""
        self._keys[agent] = key

    def remove_agent(self, agent: str) -> None:
        """Let it in no more, and cut what it has open."""
        self._keys.pop(agent, None)
        for exchange in list(self._exchanges.values()):
            if exchange.agent == agent:
                exchange.cut()

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

    def driver_changed(self, agent: str) -> None:
        """Cut the answers that the old driver had begun: the rest of them died with it."""
        for exchange in list(self._exchanges.values()):
            if exchange.agent == agent and exchange.answer.offset:
                exchange.cut()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._request(reader, writer):
                await writer.drain()
        except BadRequestError as exc:
            _respond(writer, exc.status, str(exc))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the agent closed the connection, or the guest ends
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
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
        number, self._next = self._next, self._next + 1
        exchange = Exchange(self._hub, agent, number, self._spool_dir, self._forget)
        self._exchanges[exchange.answer.sid] = exchange
        try:
            if headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            kept = [[name, value] for name, value in headers.items() if name not in _DROPPED]
            await exchange.ask({"method": method, "path": path, "headers": kept}, _body(reader, headers))
            connection = writer.transport.get_protocol()
            assert isinstance(connection, _Connection)
            connection.watch(exchange.cut)
            return await exchange.pass_on(writer, head_only=method == "HEAD")
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

    async def ask(self, head: dict[str, Any], body: AsyncIterator[bytes]) -> None:
        """Write the request to its stream. The host hears of it at its head."""
        self._request.write(json.dumps(head).encode() + b"\n")
        self._hub.add_stream(self._request, agent=self.agent)
        self._hub.offer(self.agent, self._request.sid, {"answer": self.answer.sid}, self.answer)
        async for data in body:
            if self._request.room < len(data):
                raise BadRequestError(413, f"a request body is longer than {_BODY} bytes")
            self._request.write(data)
        self._request.end()

    def received(self, data: bytes) -> None:
        """Take bytes of the answer; none is its end."""
        self._arrived.put_nowait(data)

    def cut(self) -> None:
        """Break the answer off: the agent sees a closed connection and asks again by itself."""
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
        lines = [f"HTTP/1.1 {int(head['status'])} Answer"]
        lines += [f"{name}: {value}" for name, value in head["headers"] if "\n" not in value]
        chunked = not head_only
        if chunked:
            lines.append("transfer-encoding: chunked")
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        self._hub.consumed(self.answer, len(line) + 1)
        piece: bytes | None = rest
        while True:
            if piece and chunked:
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
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[1].startswith("/") or not parts[2].startswith("HTTP/1."):
        raise BadRequestError(400, "this is not an HTTP/1 request for a path")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return parts[0], parts[1], headers


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := _number(await reader.readline(), 16):
            async for data in _exactly(reader, size):
                yield data
            await reader.readexactly(2)
        while (await reader.readline()).strip():
            pass  # trailers: nothing in them is ours
    elif "transfer-encoding" in headers:
        raise BadRequestError(501, "a request body may only be chunked")
    else:
        async for data in _exactly(reader, _number(headers.get("content-length", "0").encode(), 10)):
            yield data


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    while size > 0:
        data = await reader.read(min(size, _CHUNK))
        if not data:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(data)
        yield data


def _number(text: bytes, base: int) -> int:
    try:
        value = int(text.split(b";")[0].strip(), base)
    except ValueError as exc:
        raise BadRequestError(400, "a body's size is not a number") from exc
    if value < 0:
        raise BadRequestError(400, "a body's size is below 0")
    return value


def _respond(writer: asyncio.StreamWriter, status: int, message: str) -> None:
    kind = "authentication_error" if status == 401 else "invalid_request_error"
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    writer.write(
        f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\nconnection: close\r\n"
        f"content-length: {len(body)}\r\n\r\n".encode()
        + body
    )
