"""Connect-RPC as E2B's client speaks it: JSON, alone or in envelopes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, cast

from agenthost.testing.loopback import Exchange

STREAM = "application/connect+json"
_HEAD = 5  # bytes: flags, and four of a length
_LAST = 2  # the flag of the envelope that ends a stream
_STATUSES = {
    "invalid_argument": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "already_exists": 409,
    "unimplemented": 501,
    "unavailable": 503,
}


class RpcError(Exception):
    """What a call is refused with.

    Attributes:
        code: Connect's own word.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def told(self) -> dict[str, str]:
        """Return it as the client wants it."""
        return {"code": self.code, "message": str(self)}


async def answer(exchange: Exchange, told: dict[str, Any]) -> None:
    """Answer a single call."""
    await exchange.reply(200, json.dumps(told).encode(), {"content-type": "application/json"})


async def refuse(exchange: Exchange, error: RpcError) -> None:
    """Refuse a call, single or streamed, that was not answered yet."""
    if exchange.request.headers.get("content-type", "").startswith(STREAM):
        await exchange.start(200, {"content-type": STREAM})
        await exchange.write(envelope({"error": error.told()}, last=True))
        await exchange.finish()
        return
    body = json.dumps(error.told()).encode()
    await exchange.reply(http_status(error), body, {"content-type": "application/json"})


def http_status(error: RpcError) -> int:
    """Return the status with which a single call is refused."""
    return _STATUSES.get(error.code, 500)


def envelope(told: dict[str, Any], *, last: bool = False) -> bytes:
    """Return one message of a stream."""
    data = json.dumps(told).encode()
    return bytes([_LAST if last else 0]) + len(data).to_bytes(4, "big") + data


def parse(data: bytes) -> dict[str, Any]:
    """Return the object in one message. Raises RpcError."""
    try:
        found: object = json.loads(data)
    except ValueError as error:
        raise RpcError("invalid_argument", f"the message is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RpcError("invalid_argument", "the message is not an object")
    return cast("dict[str, Any]", found)


async def messages(pieces: AsyncIterable[bytes]) -> AsyncIterator[dict[str, Any]]:
    """Yield the messages of a stream as they come."""
    rest = bytearray()
    async for piece in pieces:
        rest += piece
        while len(rest) >= _HEAD:
            size = int.from_bytes(rest[1:_HEAD], "big")
            if len(rest) < _HEAD + size:
                break
            data = bytes(rest[_HEAD : _HEAD + size])
            del rest[: _HEAD + size]
            yield parse(data)
