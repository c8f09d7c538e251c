"""A hosted agent at Modal: the real CLI, the real link, a scripted model."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import httpx
import pytest
from claude_agent_sdk import ClaudeAgentOptions, ResultMessage
from support.hosting import KEY, scripted
from support.messages import results, texts

from agenthost import HostedAgent
from agenthost.agent.credentials import PLACEHOLDER
from agenthost.providers.modal.provider import ModalProvider
from agenthost.spec import NetworkPolicy, SandboxSpec
from agenthost.testing import Text, ToolUse
from agenthost.testing.emulators.modal import ModalEmulator
from agenthost.testing.loopback import Exchange, LoopbackServer

LIMIT = 180
MODEL = "http://model.example.com"  # a name, as Modal wants one; the agent reaches it by a proxy


@pytest.mark.full
async def test_an_agent_without_a_network_reaches_its_model_through_the_host(
    provider: ModalProvider, modal: ModalEmulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "in.txt").write_text("ünï\n")
    command = "cat in.txt > out.txt; id -u; env; cat /proc/*/environ | tr '\\0' '\\n'; cat out.txt"
    options = ClaudeAgentOptions(allowed_tools=["Bash"], max_turns=5)
    spec = SandboxSpec(network=NetworkPolicy.none())
    with anyio.fail_after(LIMIT):
        async with (
            scripted(monkeypatch, ToolUse("Bash", {"command": command}), Text("It is done.")) as model,
            HostedAgent(options, provider=provider, spec=spec, workspace=tmp_path / "app") as agent,
        ):
            await agent.query("Copy the file.")
            messages = [message async for message in agent.receive_response()]
            assert agent.sandbox is not None
            shown = json.dumps(modal.tags(agent.sandbox.id)) + str(modal.definition(agent.sandbox.id))
            await agent.download(tmp_path / "fixed")
        model.assert_played()
    (said,) = results(messages)
    assert said.splitlines()[0] == "0"
    assert said.endswith("ünï")
    assert KEY not in said + shown
    assert texts(messages) == ["It is done."]
    assert isinstance(messages[-1], ResultMessage)
    assert (tmp_path / "fixed" / "out.txt").read_text() == "ünï\n"


@pytest.mark.full
async def test_where_modal_adds_the_key_the_agents_requests_carry_a_placeholder(
    provider: ModalProvider, modal: ModalEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    modal.add_secret("anthropic", {"KEY": KEY})
    came: list[str] = []

    async def add_the_key(exchange: Exchange) -> None:
        """Do what Modal does outside of the sandbox, where the agent's requests leave it."""
        request = exchange.request
        came.append(request.headers.get("x-api-key", ""))
        headers = {"content-type": "application/json", "x-api-key": KEY}
        url = model.url + request.target.removeprefix(MODEL)
        async with httpx.AsyncClient(timeout=LIMIT, trust_env=False) as client:
            answer = await client.request(request.method, url, headers=headers, content=request.body)
        kind = {"content-type": answer.headers.get("content-type", "application/json")}
        await exchange.reply(answer.status_code, answer.content, kind)

    with anyio.fail_after(LIMIT):
        async with scripted(monkeypatch, Text("It is done.")) as model, LoopbackServer(add_the_key) as proxy:
            monkeypatch.setenv("ANTHROPIC_BASE_URL", MODEL)
            options = ClaudeAgentOptions(
                env={"ANTHROPIC_API_KEY": "${anthropic/KEY}", "HTTP_PROXY": proxy.url}
            )
            async with HostedAgent(options, provider=provider, credentials="provider") as agent:
                await agent.query("Do it.")
                messages = [message async for message in agent.receive_response()]
                assert agent.sandbox is not None
                policy = modal.definition(agent.sandbox.id).experimental_outbound_policy
    assert texts(messages) == ["It is done."]
    assert set(came) == {PLACEHOLDER}
    (added,) = policy.header_replacements
    assert (added.domain, dict(added.headers)) == ("model.example.com", {"x-api-key": "$KEY"})
