"""The way from the internet to a sandbox's ports: also to those that listen on its loopback alone."""

from __future__ import annotations

from agenthost.testing.emulators.base.ports import relay
from agenthost.testing.emulators.base.rest import reply
from agenthost.testing.emulators.e2b.boxes import E2BBox
from agenthost.testing.loopback import Exchange

TOKEN = "e2b-traffic-access-token"


async def forward(box: E2BBox, port: str, exchange: Exchange) -> None:
    """Send one request to a port and answer with what comes back, when it is whole."""
    if not port.isdecimal():
        await _say(exchange, 400, f"Invalid sandbox port: {port}")
        return
    token = exchange.request.headers.get(TOKEN)
    if not box.is_public and token != box.traffic_token:
        what = f"Token header '{TOKEN}' is missing"
        if token is not None:
            what = f"Provided token in header '{TOKEN}' is invalid"
        message = f"Sandbox is secured with traffic access token. {what}"
        await _say(exchange, 403, message, sandboxId=box.id)
        return
    host = f"{port}-{box.id}.e2b.app"
    if not await relay(box.machine, int(port), exchange, host=host, without=("e2b-", "x-access-token")):
        message = "The sandbox is running but port is not open"
        await _say(exchange, 502, message, sandboxId=box.id, port=int(port))


async def _say(exchange: Exchange, status: int, message: str, **more: object) -> None:
    await reply(exchange, status, {"code": status, "message": message, **more})
