"""A hosted agent at Modal: the real CLI, the real link, a scripted model."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest
from claude_agent_sdk import ClaudeAgentOptions, ResultMessage
from support.conversations import results_of, texts_of
from support.hosting import KEY, scripted

from agenthost import HostedAgent
from agenthost.providers.modal.provider import ModalProvider
from agenthost.spec import NetworkPolicy, SandboxSpec
from agenthost.testing import Text, ToolUse
from agenthost.testing.emulators.modal import ModalEmulator

LIMIT = 180


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
    (said,) = results_of(messages)
    assert said.splitlines()[0] == "0"
    assert said.endswith("ünï")
    assert KEY not in said + shown
    assert texts_of(messages) == ["It is done."]
    assert isinstance(messages[-1], ResultMessage)
    assert (tmp_path / "fixed" / "out.txt").read_text() == "ünï\n"
