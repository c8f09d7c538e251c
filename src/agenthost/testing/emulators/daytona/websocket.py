"""The server's side of a WebSocket: what a followed log and the client's socket for events need."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import anyio

from agenthost.testing.loopback import Exchange

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of RFC 6455
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
_CLOSING = 5.0  # seconds until a client has answered


def is_upgrade(exchange: Exchange) -> bool:
    """Return whether a request asks for a WebSocket."""
    return exchange.request.headers.get("upgrade", "").lower() == "websocket"


async def serve(
    exchange: Exchange,
    messages: AsyncIterator[bytes | str],
    on_message: Callable[[bytes], object] = lambda _: None,
) -> None:
    """Send messages, each as one, and close with code 1000; end early when the client goes away.

    Args:
        exchange: The request for the upgrade.
        messages: Bytes become binary messages, texts become text messages.
        on_message: Called with each message of the client.
    """
    stream = exchange.incoming.stream
    key = exchange.request.headers.get("sec-websocket-key", "").encode()
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "upgrade: websocket", "connection: upgrade"]
    sending = anyio.Lock()

    async def send(kind: int, data: bytes) -> None:
        async with sending:
            await stream.send(_frame(kind, data))

    with suppress(*_GONE):
        await stream.send("\r\n".join([*lines, f"sec-websocket-accept: {accept}", "", ""]).encode())
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                with suppress(*_GONE):
                    while True:
                        kind, data = await _read(exchange)
                        if kind == _PING:
                            await send(_PONG, data)
                        elif kind == _CLOSE:
                            await send(_CLOSE, data)
                            break
                        else:
                            on_message(data)
                tasks.cancel_scope.cancel()

            tasks.start_soon(listen)
            with suppress(*_GONE):
                async for message in messages:
                    if isinstance(message, str):
                        await send(_TEXT, message.encode())
                    else:
                        await send(_BINARY, message)
                await send(_CLOSE, struct.pack("!H", 1000))
                await anyio.sleep(_CLOSING)
            tasks.cancel_scope.cancel()


def _frame(kind: int, data: bytes) -> bytes:
    size = len(data)
    if size < 126:
        head = struct.pack("!BB", 0x80 | kind, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | kind, 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | kind, 127, size)
    return head + data


async def _read(exchange: Exchange) -> tuple[int, bytes]:
    first, second = await exchange.incoming.exactly(2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack("!H", await exchange.incoming.exactly(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", await exchange.incoming.exactly(8))
    mask = await exchange.incoming.exactly(4) if second & 0x80 else bytes(4)
    data = await exchange.incoming.exactly(size)
    return first & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
