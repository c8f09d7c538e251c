"""The way from the internet to a sandbox's ports: also to those that listen on its loopback alone."""

from __future__ import annotations

import json

from agenthost.testing.emulators.e2b.boxes import Box
from agenthost.testing.loopback import Exchange

# A request goes in, its answer comes out; a server that keeps the connection is not waited for.
_RELAY = 'exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 7; cat >&3; timeout 20 cat <&3'
_NOT_ON = ("e2b-", "connection", "x-access-token", "transfer-encoding", "content-length", "host")


async def forward(box: Box, port: str, exchange: Exchange) -> None:
    """Send one request to a port and answer with what comes back, a response that says its length."""
    request = exchange.request
    token = request.headers.get("e2b-traffic-access-token")
    if not box.is_public and token != box.traffic_token:
        await _say(exchange, 403, "Sandbox traffic access token is missing or invalid")
        return
    headers = {name: value for name, value in request.headers.items() if not name.startswith(_NOT_ON)}
    headers.update(host=f"{port}-{box.id}.e2b.app", connection="close")
    headers["content-length"] = str(len(request.body))
    lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
    sent = "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body
    done = await box.machine.sandbox.exec(["bash", "-c", _RELAY, port], stdin=sent)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        await _say(exchange, 502, f"The sandbox is running but port is not open: {port}")
        return
    await exchange.reply(int(words[1]), body)


async def _say(exchange: Exchange, status: int, message: str) -> None:
    body = json.dumps({"code": status, "message": message}).encode()
    await exchange.reply(status, body, {"content-type": "application/json"})
