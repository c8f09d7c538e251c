"""The socket on which the client listens for events: it is accepted, and stays silent.

The client tries again with every call where it is refused.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator

import anyio

from agenthost.testing.emulators.daytona import websocket
from agenthost.testing.loopback import Exchange

_PING = 20.0  # seconds
_OPEN, _CONNECT, _PING_TEXT = "0", "40", "2"  # the types of messages of Engine.IO 4 and Socket.IO 5


async def listen(exchange: Exchange) -> None:
    """Serve the socket until the client goes away."""
    asked = anyio.Event()

    def take(message: bytes) -> None:
        if message.startswith(_CONNECT.encode()):
            asked.set()

    async def messages() -> AsyncGenerator[str]:
        sid = secrets.token_hex(10)
        times = {"pingInterval": round(_PING * 1000), "pingTimeout": 20_000, "maxPayload": 1_000_000}
        yield _OPEN + json.dumps({"sid": sid, "upgrades": [], **times})
        await asked.wait()
        yield _CONNECT + json.dumps({"sid": sid})
        while True:
            await anyio.sleep(_PING)
            yield _PING_TEXT

    await websocket.serve(exchange, messages(), take)
