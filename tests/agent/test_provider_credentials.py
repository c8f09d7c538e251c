"""``credentials="provider"``: the provider adds the key to the agent's requests, outside the sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio
import httpx
import pytest
from claude_agent_sdk import ResultMessage
from support.hosting import KEY

from agenthost import HeaderInjection, HostedAgent, NetworkPolicy, Sandbox, SandboxSpec
from agenthost.errors import ConfigError, UnsupportedError
from agenthost.providers.local.provider import LocalProvider
from agenthost.sandbox import Backend, Boot
from agenthost.supports import SupportsHeaderInjection
from agenthost.testing import Text, ToolUse
from agenthost.testing.loopback import Exchange, LoopbackServer

LIMIT = 120
OPEN = SandboxSpec(network=NetworkPolicy.open())


class AddingProvider(LocalProvider):
    """Adds headers to what its sandboxes ask of a model, as a proxy on this host."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.capabilities = replace(self.capabilities, header_injection=True)
        self.added: dict[str, str] = {}
        self.came: list[Mapping[str, str]] = []
        self._model = model
        self.proxy = LoopbackServer(self._pass_on)

    def check(self, spec: SandboxSpec) -> None:
        super().check(replace(spec, inject=()))

    def check_headers(self, headers: Sequence[HeaderInjection]) -> None:
        for one in headers:
            if one.host != "127.0.0.1":
                raise UnsupportedError(f"inject for {one.host!r}: only 127.0.0.1 is reached by the proxy")

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        self.added = {one.header: one.secret for one in spec.inject if one.host == "127.0.0.1"}
        return await super().make(replace(spec, inject=()), boot)

    async def _pass_on(self, exchange: Exchange) -> None:
        request = exchange.request
        self.came.append(request.headers)
        hop = {"host", "content-length", "connection", "transfer-encoding", "accept-encoding"}
        headers = {name: value for name, value in request.headers.items() if name.lower() not in hop}
        async with httpx.AsyncClient(timeout=LIMIT) as client:
            answer = await client.request(
                request.method,
                self._model + request.target,
                headers={**headers, **self.added},
                content=request.body,
            )
        kind = {"content-type": answer.headers.get("content-type", "application/json")}
        await exchange.reply(answer.status_code, answer.content, kind)


async def test_the_agent_works_and_the_key_is_not_inside(
    script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = "env | grep -c '^ANTHROPIC_API_KEY=sk-ant-added-by-the-provider$'"
    with anyio.fail_after(LIMIT):
        async with script(ToolUse("Bash", {"command": look}), Text("Done.")) as model:
            provider = AddingProvider(model.url)
            async with provider.proxy, provider:
                monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.proxy.url)
                async with HostedAgent(
                    {"allowed_tools": ["Bash"]}, provider=provider, spec=OPEN, credentials="provider"
                ) as agent:
                    await agent.query("go")
                    messages = [message async for message in agent.receive_response()]
                    info = await agent.sandbox.info()
    assert isinstance(messages[-1], ResultMessage)
    assert (messages[-1].result, messages[-1].is_error) == ("Done.", False)
    assert provider.added == {"x-api-key": KEY}
    assert len(model.turns) == 2
    assert provider.came
    assert KEY not in str(provider.came)
    assert KEY not in str(info)


async def test_it_is_refused_before_anything_is_made_where_it_cannot_be(script: Any) -> None:
    async with script(Text("Never.")), LocalProvider() as provider:
        with pytest.raises(UnsupportedError, match="adds no headers"):
            await HostedAgent({}, provider=provider, spec=OPEN, credentials="provider").connect()
        with pytest.raises(ConfigError, match="needs a network"):
            await HostedAgent({}, provider=AddingProvider(""), credentials="provider").connect()
        sandbox: Sandbox = await provider.create(OPEN)
        with pytest.raises(ConfigError, match="give provider= instead of sandbox="):
            await HostedAgent({}, sandbox=sandbox, credentials="provider").connect()
        await sandbox.terminate()
        assert [info async for info in provider.list()] == []


async def test_headers_that_the_provider_cannot_add_are_refused_in_its_words_before_anything_is_made() -> (
    None
):
    async with AddingProvider("") as provider:
        assert isinstance(provider, SupportsHeaderInjection)
        spec = replace(OPEN, inject=(HeaderInjection(host="example.org", header="x", secret="hidden"),))
        with pytest.raises(UnsupportedError, match=r"inject for 'example\.org'") as caught:
            await provider.create(spec)
        assert "hidden" not in str(caught.value)
        assert [info async for info in provider.list()] == []
