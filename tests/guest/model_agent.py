"""Agents that are a Python script: they ask the model endpoint and print what they were told."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from agenthost.link.channel import AgentChannel, Exchange
from agenthost.link.client import GuestSandbox

_numbers = itertools.count(1)

# What the scripts have at hand. ``tell`` is a line of the journal, ``hear`` a line of the input.
PRELUDE = """
import http.client, json, os, socket, sys, urllib.parse
BASE = os.environ.get("ANTHROPIC_BASE_URL", "")
KEY = os.environ.get("ANTHROPIC_API_KEY", "")
PORT = urllib.parse.urlsplit(BASE).port
def tell(value):
    print(json.dumps(value), flush=True)
def hear():
    return json.loads(sys.stdin.readline())
def connect():
    return http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
def ask(connection, method="POST", path="/v1/messages", body=b"{}", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, {"x-api-key": KEY} | headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode("latin-1")
def head(method, *headers):
    lines = (f"{method} / HTTP/1.1", f"x-api-key: {KEY}", *headers, "")
    return "".join(line + "\\r\\n" for line in lines).encode()
def raw(data):
    with socket.create_connection(("127.0.0.1", PORT), timeout=60) as sock:
        sock.sendall(data)
        parts = []
        while part := sock.recv(65536):
            parts.append(part)
        return b"".join(parts).decode("latin-1")
"""


class ScriptAgent:
    """An agent with a script's life, seen by its driver."""

    def __init__(self, channel: AgentChannel) -> None:
        self.channel = channel
        self._offset = 0
        self._rest = b""

    async def told(self) -> Any:
        """Return the next thing that the script told."""
        while b"\n" not in self._rest:
            data = await self.channel.receive()
            assert data, f"the script has ended: {self.channel.stderr_tail().decode()}"
            self._rest += data
            self._offset += len(data)
            self.channel.ack(self._offset)
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    async def say(self, value: object) -> None:
        """Have the script hear something."""
        await self.channel.send(json.dumps(value).encode() + b"\n")

    async def next_exchange(self) -> Exchange:
        """Return the next model request."""
        return await self.channel.next_exchange()

    async def answer(self, body: bytes, status: int = 200) -> tuple[Any, bytes]:
        """Answer the next model request; returns its head and body."""
        exchange = await self.channel.next_exchange()
        head = await exchange.head()
        asked = await body_of(exchange)
        await exchange.send_head(status, [("content-type", "text/plain")])
        await exchange.send(body)
        exchange.end()
        await exchange.wait_gone()
        self.channel.close_exchange(exchange)
        return head, asked


async def body_of(exchange: Exchange) -> bytes:
    """Read a request's body to its end."""
    parts: list[bytes] = []
    while data := await exchange.receive():
        parts.append(data)
    return b"".join(parts)


@asynccontextmanager
async def script_agent(
    box: GuestSandbox, script: str, *, model: bool = True, name: str | None = None
) -> AsyncGenerator[ScriptAgent]:
    """Start an agent that is a Python script, and drive it."""
    argv = ["python3", "-c", PRELUDE + script]
    async with box.agent(name or f"agent-{next(_numbers)}", argv=argv, env={}, model=model) as channel:
        yield ScriptAgent(channel)
