"""The way from the internet to a sandbox's ports: also to those that listen on its loopback alone."""

from __future__ import annotations

import io
import json
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any, cast

from agenthost.errors import AgentHostError
from agenthost.testing.emulators.e2b.boxes import Box
from agenthost.testing.loopback import Exchange

TOKEN = "e2b-traffic-access-token"
# A request goes in, its answer comes out; a server that keeps the connection is not waited for.
_RELAY = 'exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 7; cat >&3; timeout 20 cat <&3'
_MOST = 256 * 1024 * 1024  # bytes of an answer
_NOT_ON = ("e2b-", "connection", "x-access-token", "transfer-encoding", "content-length", "host")
_NOT_BACK = ("connection", "keep-alive", "transfer-encoding", "content-length")


async def forward(box: Box, port: str, exchange: Exchange) -> None:
    """Send one request to a port and answer with what comes back, when it is whole."""
    request = exchange.request
    if not port.isdecimal():
        await _say(exchange, 400, f"Invalid sandbox port: {port}")
        return
    token = request.headers.get(TOKEN)
    if not box.is_public and token != box.traffic_token:
        what = f"Token header '{TOKEN}' is missing"
        if token is not None:
            what = f"Provided token in header '{TOKEN}' is invalid"
        message = f"Sandbox is secured with traffic access token. {what}"
        await _say(exchange, 403, message, sandboxId=box.id)
        return
    headers = {name: value for name, value in request.headers.items() if not name.startswith(_NOT_ON)}
    headers.update(host=f"{port}-{box.id}.e2b.app", connection="close")
    headers["content-length"] = str(len(request.body))
    lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
    sent = "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body
    try:
        done = await box.machine.sandbox.exec(["bash", "-c", _RELAY, port], stdin=sent, max_output=_MOST)
    except AgentHostError:
        return  # the sandbox has ended: its connections with it
    answer = HTTPResponse(cast("Any", _Said(done.stdout)), method=request.method)
    try:
        answer.begin()
        body = answer.read()
    except IncompleteRead:
        return  # cut, as it came
    except HTTPException:
        await _say(
            exchange, 502, "The sandbox is running but port is not open", sandboxId=box.id, port=int(port)
        )
        return
    back = {name: value for name, value in answer.getheaders() if name.lower() not in _NOT_BACK}
    await exchange.reply(answer.status, body, back)


class _Said:
    """What came from a server, as the standard library wants it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        """Return it to be read."""
        del mode
        return io.BytesIO(self._data)


async def _say(exchange: Exchange, status: int, message: str, **more: object) -> None:
    body = json.dumps({"code": status, "message": message, **more}).encode()
    await exchange.reply(status, body, {"content-type": "application/json"})
