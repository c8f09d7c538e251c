"""Code in a sandbox that has found the port to the model, and the service behind the host that it asks."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from support.hosting import give_key

from agenthost import HostedAgent, SandboxSpec, open_provider
from agenthost.sandbox import Sandbox
from agenthost.testing import FakeCLI
from agenthost.testing.loopback import Exchange, HttpRequest, LoopbackServer

MODEL = "claude-haiku-4-5"
PATH = "/v1/messages?beta=true"

# What any program of the agent's can do: the CLI's environment names the port and what it wants for a key.
_ATTACKER = """
import http.client, json, sys, urllib.parse
base, key, asked = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
found = []
for method, path, headers, body in asked:
    if isinstance(body, int):
        body = '{"model": "claude-haiku-4-5", "max_tokens": 1, "messages": [' + "[]," * body + "[]]}"
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(base).netloc, timeout=60)
    connection.request(method, path, body, {"x-api-key": key, "content-type": "application/json", **headers})
    answer = connection.getresponse()
    found.append([answer.status, answer.read().decode()])
    connection.close()
print(json.dumps(found))
"""


class Service:
    """The model's service: it answers everything, and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []
        self.server = LoopbackServer(self._answer)

    async def _answer(self, exchange: Exchange) -> None:
        self.requests.append(exchange.request)
        usage = {"input_tokens": 1000, "output_tokens": 1000}
        await exchange.reply(200, json.dumps({"type": "message", "usage": usage}).encode())

    def read(self) -> list[dict[str, Any]]:
        """Return the bodies as a parser reads them that keeps the first of two equal names."""

        def first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            return dict(reversed(pairs))

        return [json.loads(request.body, object_pairs_hook=first) for request in self.requests]


@dataclass
class Port:
    """The way from inside to the service."""

    sandbox: Sandbox
    service: Service
    base: str
    key: str

    async def ask(
        self, body: dict[str, Any] | str | int, *, method: str = "POST", path: str = PATH, **headers: str
    ) -> tuple[int, str]:
        """Ask once from inside; return the answer's status and text. A number makes so many values."""
        self.service.requests.clear()
        text = json.dumps(body) if isinstance(body, dict) else body
        asked = json.dumps([[method, path, headers, text]])
        done = await self.sandbox.exec(["python3", "-c", _ATTACKER, self.base, self.key, asked])
        assert done.exit_code == 0, done.stderr.decode()
        status, answer = json.loads(done.stdout)[0]
        return int(status), str(answer)


@asynccontextmanager
async def open_port(provider: str) -> AsyncGenerator[Port]:
    """Start an agent whose options name one cheap model, in a sandbox without a network."""
    service = Service()
    with pytest.MonkeyPatch.context() as patch:
        give_key(patch)
        async with service.server as server, open_provider(provider) as opened:
            patch.setenv("ANTHROPIC_BASE_URL", server.url)
            sandbox = await opened.create(SandboxSpec())
            try:
                cli = await FakeCLI(at_start=[FakeCLI.report(f"{sandbox.workdir}/report")]).put(sandbox)
                options = {"cli_path": cli, "model": MODEL}
                async with HostedAgent(options, sandbox=sandbox) as agent:
                    report = json.loads(await agent.sandbox.read_file(f"{sandbox.workdir}/report"))
                    env = report["env"]
                    yield Port(sandbox, service, env["ANTHROPIC_BASE_URL"], env["ANTHROPIC_API_KEY"])
            finally:
                await sandbox.terminate()


def message(*content: dict[str, Any], model: str = MODEL, **more: Any) -> dict[str, Any]:
    """Return the body of a request with these blocks."""
    blocks = [*content, {"type": "text", "text": "go"}]
    return {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": blocks}], **more}
