"""A hosted agent in a container: the real CLI, the real link, a scripted model."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest
from claude_agent_sdk import ClaudeAgentOptions, ResultMessage
from docker.docker_engine import DockerEngine
from support.hosting import KEY, scripted
from support.messages import results, texts

from agenthost import HostedAgent
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.provider import DockerProvider
from agenthost.testing import Text, ToolUse

LIMIT = 180


async def test_an_agent_works_in_a_container_without_network_or_key(
    provider: DockerProvider, engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "in.txt").write_text("ünï\n")
    command = "cat in.txt > out.txt; id -u; env; cat /proc/1/environ | tr '\\0' '\\n'; cat out.txt"
    options = ClaudeAgentOptions(permission_mode="bypassPermissions", max_turns=5)
    with anyio.fail_after(LIMIT):
        async with (
            scripted(monkeypatch, ToolUse("Bash", {"command": command}), Text("It is done.")) as model,
            HostedAgent(options, provider=provider, workspace=tmp_path / "app") as agent,
        ):
            await agent.query("Copy the file.")
            messages = [message async for message in agent.receive_response()]
            assert agent.sandbox is not None
            shown = json.dumps(await engine.ask("GET", f"/containers/{agent.sandbox.id}/json"))
            await agent.download(tmp_path / "fixed")
        model.assert_played()
    (said,) = results(messages)
    assert said.splitlines()[0] == "1000"
    assert said.endswith("ünï")
    assert KEY not in said + shown
    assert texts(messages) == ["It is done."]
    assert isinstance(messages[-1], ResultMessage)
    assert not messages[-1].is_error
    assert (tmp_path / "fixed" / "out.txt").read_text() == "ünï\n"


async def test_an_agent_outlives_its_host_and_is_taken_over(
    docker_engine: DockerEngine, provider: DockerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    options = ClaudeAgentOptions(max_turns=5)
    with anyio.fail_after(LIMIT):
        async with scripted(monkeypatch, Text("One."), Text("Two.")) as model:
            async with HostedAgent(options, provider=provider) as agent:
                await agent.query("Say one.")
                first = [message async for message in agent.receive_response()]
                ref = await agent.detach(keep_for=300)
            async with (
                DockerProvider(host=docker_engine.host) as other,
                HostedAgent.attach(ref, provider=other) as again,
            ):
                await again.query("Say two.")
                second = [message async for message in again.receive_response()]
            model.assert_played()
    assert texts(first) == ["One."]
    assert texts(second) == ["Two."]
