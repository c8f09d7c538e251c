"""A stream that an engine gives instead of an answer (101): a running program's stdin, stdout and stderr.

It works on the socket itself. httpx hands such a stream out as one of anyio's, whose cancelled receive can
leave an InvalidStateError in asyncio's log, and which knows no half-close on trio.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from typing import Any

import anyio
import anyio.lowlevel

from agenthost.link.carriers.socket import SocketCarrier
from agenthost.providers.docker.address import Address
from agenthost.providers.docker.errors import EngineError
from agenthost.providers.docker.frames import STDERR, STDOUT, Demultiplexer

_CHUNK = 64 * 1024
_HEAD_LIMIT = 64 * 1024
_TAIL = 2000  # bytes of stderr that are kept for an error


class UpgradedStream:
    """Both ways of a program's streams. Closing it is no signal to the program."""

    binary = True

    def __init__(self, raw: SocketCarrier, rest: bytes) -> None:
        self._raw = raw
        self._frames = Demultiplexer()
        self._ready: deque[bytes] = deque()
        self.stderr = b""
        self._take(rest)

    async def send(self, data: bytes) -> None:
        """Write to the program's stdin. OSError when the engine has closed the stream."""
        await self._raw.send(data)

    async def receive(self) -> bytes:
        """Return the next bytes of stdout, ``b""`` at the end. stderr is kept aside, its end at least."""
        while not self._ready:
            data = await self._raw.receive()
            if not data:
                return b""
            self._take(data)
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Close. Idempotent. The engine then ends the program's stdin."""
        await self._raw.aclose()

    def _take(self, data: bytes) -> None:
        try:
            parts = self._frames.feed(data)
        except ValueError as exc:
            raise ConnectionResetError(str(exc)) from exc
        for kind, payload in parts:
            if kind == STDOUT:
                self._ready.append(payload)
            elif kind >= STDERR:
                self.stderr = (self.stderr + payload)[-_TAIL:]


async def open_upgraded(address: Address, path: str, body: object) -> UpgradedStream:
    """Ask for a stream by POST.

    Raises:
        EngineError: The engine refused; with its status.
        OSError: It does not answer, or not in HTTP.
    """
    raw = SocketCarrier(await _connect(address))
    try:
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\n"
            f"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        await raw.send(head.encode("ascii") + content)
        status, rest = await _read_head(raw)
        if status == 101:
            return UpgradedStream(raw, rest)
        raise EngineError(await _read_error(raw, rest), status)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await raw.aclose()
        raise


async def _connect(address: Address) -> socket.socket:
    family = socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
    raw = socket.socket(family, socket.SOCK_STREAM)
    raw.setblocking(False)
    target: Any = address.path or (address.host, address.port)
    try:
        await anyio.lowlevel.checkpoint()
        try:
            raw.connect(target)
        except BlockingIOError:
            await anyio.wait_writable(raw)
            if error := raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, f"no container engine answers at {address}") from None
    except BaseException:
        raw.close()
        raise
    return raw


async def _read_head(raw: SocketCarrier) -> tuple[int, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = await raw.receive()
        if not piece or len(data) > _HEAD_LIMIT:
            raise ConnectionResetError("the container engine sent no answer")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    words = head.split(b"\r\n")[0].split(b" ")
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise ConnectionResetError("the container engine does not speak HTTP")
    return int(words[1]), rest


async def _read_error(raw: SocketCarrier, rest: bytes) -> str:
    """Return what an error says. Its length does not matter: it is one line of JSON."""
    while b"}" not in rest and len(rest) < _CHUNK and (piece := await raw.receive()):
        rest += piece
    begin, end = rest.find(b"{"), rest.rfind(b"}")
    try:
        return str(json.loads(rest[begin : end + 1])["message"])
    except (ValueError, KeyError, TypeError):
        return rest.decode(errors="replace").strip()[:_TAIL]
