"""HostedAgent does in a sandbox what ClaudeSDKClient does on a laptop: real CLI, scripted model."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import claude_agent_sdk
import pytest
from agent.turns import turn
from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, StreamEvent
from support.hosting import KEY
from support.messages import texts

import agenthost
from agenthost import HostedAgent, SafeDefaults, SandboxSpec, open_provider
from agenthost.agent.progress import Progress
from agenthost.errors import ConfigError, UnsupportedError
from agenthost.testing import ApiError, Hold, ModelRequest, Text, ToolUse, Turn

LIMIT = 120
PLAIN = "local-unisolated"
OPTIONS: dict[str, Any] = {"permission_mode": "acceptEdits", "allowed_tools": ["Bash"]}


def echo(request: ModelRequest) -> Text:
    return Text(f"To {request.prompt[-3:]}.")


def refuse(_: ModelRequest) -> ApiError:
    return ApiError(400, "no such thing")


@pytest.mark.parametrize("provider", ["local", pytest.param(PLAIN, marks=pytest.mark.full)])
async def test_an_agent_works_in_its_sandbox_with_uploaded_files_and_a_key_that_stays_outside(
    script: Any, tmp_path: Path, provider: str
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "in 'put' \U0001f40d.txt").write_text("ünï\n")
    (tmp_path / "app" / ".env").write_text("SECRET=1")
    command = "cat in*.txt > out.txt; env; ls -A; cat out.txt"
    with anyio.fail_after(LIMIT):
        async with (
            script(ToolUse("Bash", {"command": command}), Text("Done.")) as model,
            HostedAgent(OPTIONS, provider=provider, workspace=tmp_path / "app") as agent,
        ):
            messages = await turn(agent, "Go 'on' \"please\" \U0001f44b")
            listing = await agent.sandbox.exec(["cat", "out.txt"])
            told = await agent.download(tmp_path / "back")
            rest = await agent.download(tmp_path / "rest", ignore=["out.txt"])
            session = agent.session_id
            assert agent.sandbox.provider == provider
        model.assert_played()

    assert isinstance(messages[-1], ResultMessage)
    assert texts(messages) == ["Done."]
    assert rest.files == told.files - 1
    assert session == messages[-1].session_id == agent.session_id
    assert (agent.usage.results, agent.usage.turns) == (1, 2)
    assert agent.usage.total_cost_usd == messages[-1].total_cost_usd
    assert listing.stdout.decode() == "ünï\n"
    assert (tmp_path / "back" / "out.txt").read_text() == "ünï\n"
    assert not (tmp_path / "back" / ".env").exists()
    assert told.files == 2
    # The model saw the key of the host, the agent's own shell did not.
    assert {request.api_key for request in model.requests} == {KEY}
    shown = model.turns[1].tool_results[0].text
    assert "ünï" in shown
    assert KEY not in shown
    assert "ANTHROPIC_API_KEY=sk-ant-agenthost-" in shown


async def test_several_turns_partial_messages_and_controls(script: Any) -> None:
    options = ClaudeAgentOptions(include_partial_messages=True, system_prompt="You are a test.")
    with anyio.fail_after(LIMIT):
        async with script(echo) as model, HostedAgent(options, provider=PLAIN) as agent:
            first = await turn(agent, "one")
            await agent.set_model("claude-other-9")
            await agent.set_permission_mode("plan")
            second = await turn(agent, "two")
            info = await agent.get_server_info()
            status = await agent.get_mcp_status()

    assert texts(first) == ["To one."]
    assert texts(second) == ["To two."]
    assert any(isinstance(message, StreamEvent) for message in first)
    assert info is not None
    assert info["commands"]
    assert status["mcpServers"] == []
    assert model.turns[-1].model == "claude-other-9"
    assert "You are a test." in str(model.turns[0].body["system"])


async def test_an_interrupt_from_another_task_ends_the_turn_and_the_agent_goes_on(script: Any) -> None:
    got: list[Any] = []
    with anyio.fail_after(LIMIT):
        async with (
            script(Turn(Text("Thinking"), Hold(anyio.Event())), Text("Again.")),
            HostedAgent({**OPTIONS, "include_partial_messages": True}, provider=PLAIN) as agent,
        ):
            async with anyio.create_task_group() as tasks:
                streaming = anyio.Event()

                async def read() -> None:
                    async for message in agent.receive_response():
                        got.append(message)
                        if isinstance(message, StreamEvent):
                            streaming.set()

                tasks.start_soon(read)
                await agent.query("go")
                await streaming.wait()
                await agent.interrupt()
            after = await turn(agent, "again")

    assert got[-1].subtype == "error_during_execution"
    assert texts(after) == ["Again."]


async def test_a_call_is_answered_although_nobody_reads_messages(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text.deltas(5_000, 900)):
            options = {"include_partial_messages": True}
            async with HostedAgent(options, provider=PLAIN) as agent:
                await agent.query("flood")
                await agent.set_permission_mode("plan")
                messages = [message async for message in agent.receive_response()]

    deltas = [m for m in messages if isinstance(m, StreamEvent) and m.event["type"] == "content_block_delta"]
    assert len(deltas) == 5_000


async def test_prompts_may_be_message_dicts_each_sent_as_it_comes(script: Any) -> None:
    answered = anyio.Event()

    async def prompts() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "user", "message": {"role": "user", "content": "one"}, "parent_tool_use_id": None}
        await answered.wait()
        yield {"type": "user", "message": {"role": "user", "content": "two"}, "parent_tool_use_id": None}

    with anyio.fail_after(LIMIT):
        async with (
            script(echo),
            HostedAgent(OPTIONS, provider=PLAIN) as agent,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(agent.query, prompts())
            one = [message async for message in agent.receive_response()]
            answered.set()
            two = [message async for message in agent.receive_response()]
            assert [*texts(one), *texts(two)] == ["To one.", "To two."]


async def test_it_may_be_connected_in_one_task_and_disconnected_in_another(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("Hi.")):
            agent = HostedAgent(OPTIONS, provider=PLAIN)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(agent.connect)
            assert texts(await turn(agent, "hi")) == ["Hi."]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(agent.disconnect)
            await agent.disconnect()
            with pytest.raises(claude_agent_sdk.CLIConnectionError, match="Not connected"):
                await agent.query("more")
            assert agent.usage.results == 1


async def test_connect_with_a_prompt_sends_it(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("Hi.")):
            agent = HostedAgent(OPTIONS, provider=PLAIN)
            await agent.connect("hello")
            try:
                messages = [message async for message in agent.receive_response()]
                with pytest.raises(ConfigError, match="connected already"):
                    await agent.connect()
            finally:
                await agent.disconnect()

    assert texts(messages) == ["Hi."]


async def test_two_agents_share_a_sandbox_that_outlives_them(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(echo), open_provider(PLAIN) as provider:
            sandbox = await provider.create(SandboxSpec())
            try:
                async with (
                    HostedAgent(OPTIONS, sandbox=sandbox) as one,
                    HostedAgent(OPTIONS, sandbox=sandbox) as two,
                ):
                    for agent in (one, two):
                        assert texts(await turn(agent, "one")) == ["To one."]
                assert (await sandbox.exec(["echo", "still here"])).stdout == b"still here\n"
            finally:
                await sandbox.terminate()


async def test_a_provider_that_is_open_makes_the_sandbox_and_stays_open(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("Hi.")), open_provider(PLAIN) as provider:
            async with HostedAgent(OPTIONS, provider=provider) as agent:
                assert texts(await turn(agent, "hi")) == ["Hi."]
            assert [info.id async for info in provider.list()] == []


async def test_query_asks_once_in_a_sandbox_that_ends_with_it(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("Hi.")):
            messages = [m async for m in agenthost.query(prompt="hi", options=OPTIONS, provider=PLAIN)]
        async with (
            script(Text("Hi.")),
            aclosing(agenthost.query(prompt="hi", options=OPTIONS, provider=PLAIN)) as answer,
        ):
            async for _ in answer:
                break
        async with open_provider(PLAIN) as provider:
            assert [info.id async for info in provider.list()] == []

    assert texts(messages) == ["Hi."]
    assert isinstance(messages[-1], ResultMessage)


async def test_progress_is_told_and_a_callback_that_raises_ends_nothing(
    script: Any, caplog: pytest.LogCaptureFixture
) -> None:
    steps: list[Progress] = []

    def tell(step: Progress) -> None:
        steps.append(step)
        raise RuntimeError("a broken progress bar")

    with caplog.at_level(logging.ERROR, "agenthost.agent"), anyio.fail_after(LIMIT):
        async with script(Text("Hi.")), HostedAgent(OPTIONS, provider=PLAIN, on_progress=tell) as agent:
            assert texts(await turn(agent, "hi")) == ["Hi."]

    assert [step.stage for step in steps] == ["sandbox", "sandbox", "agent", "agent", "ready", "end"]
    assert "on_progress raised" in caplog.text


async def test_the_defaults_reach_the_cli_and_an_option_wins(script: Any) -> None:
    command = "env; cat /proc/$PPID/cmdline | tr '\\0' ' '"
    with anyio.fail_after(LIMIT):
        async with script(ToolUse("Bash", {"command": command}), Text("Done.")) as model:
            options = {**OPTIONS, "max_turns": 7}
            async with HostedAgent(options, provider=PLAIN, defaults=SafeDefaults(max_turns=3)) as agent:
                await turn(agent, "hi")

    shown = model.turns[1].tool_results[0].text
    assert "CLAUDE_CODE_DISABLE_AUTO_MEMORY=1" in shown
    assert "/.agenthost/claude" in shown
    assert "API_TIMEOUT_MS=86400000" in shown
    assert "--setting-sources= " in shown
    assert "--strict-mcp-config" in shown
    assert "--max-turns 7" in shown


async def test_credentials_env_put_the_key_into_the_sandbox(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            script(ToolUse("Bash", {"command": "env"}), Text("Done.")) as model,
            HostedAgent(OPTIONS, provider=PLAIN, credentials="env") as agent,
        ):
            await turn(agent, "hi")

    assert f"ANTHROPIC_API_KEY={KEY}" in model.turns[1].tool_results[0].text


async def test_a_key_in_the_options_is_used_on_the_host(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    options = {**OPTIONS, "env": {"ANTHROPIC_API_KEY": KEY, "COLOUR": "red"}}
    with anyio.fail_after(LIMIT):
        async with (
            script(ToolUse("Bash", {"command": "env"}), Text("Done.")) as model,
            HostedAgent(options, provider=PLAIN) as agent,
        ):
            await turn(agent, "hi")

    shown = model.turns[1].tool_results[0].text
    assert "COLOUR=red" in shown
    assert KEY not in shown


async def test_bypassing_permissions_is_refused_without_isolation_also_later(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        with pytest.raises(UnsupportedError, match="bypassPermissions"):
            async with HostedAgent({"permission_mode": "bypassPermissions"}, provider=PLAIN):
                raise AssertionError("started")
        async with script(), HostedAgent(OPTIONS, provider=PLAIN) as agent:
            with pytest.raises(ConfigError, match="bypassPermissions"):
                await agent.set_permission_mode("bypassPermissions")


@pytest.mark.parametrize(
    "options", [{"sandbox": {"enabled": True}}, {"settings": '{"sandbox": {"enabled": true}}'}]
)
async def test_a_sandbox_of_the_cli_is_refused_in_one_that_allows_none(options: dict[str, Any]) -> None:
    with anyio.fail_after(LIMIT):
        with pytest.raises(UnsupportedError, match=rf"options.{next(iter(options))}: .*Leave it out"):
            async with HostedAgent(options, provider="local"):
                raise AssertionError("started")
        async with open_provider("local") as provider:
            sandbox = await provider.create(SandboxSpec())
            with pytest.raises(UnsupportedError, match=r"Leave it out"):
                await HostedAgent(options, sandbox=sandbox).connect()
            await sandbox.terminate()


async def test_a_sandbox_of_the_cli_that_is_off_or_not_within_another_one_is_its_own_matter(
    script: Any,
) -> None:
    with anyio.fail_after(LIMIT):
        for enabled, provider in ((False, "local"), (True, PLAIN)):
            async with (
                script(Text("Done.")),
                HostedAgent({"sandbox": {"enabled": enabled}}, provider=provider) as agent,
            ):
                assert texts(await turn(agent, "hi")) == ["Done."]


async def test_bypassing_permissions_works_in_an_isolated_sandbox(script: Any) -> None:
    options = {"permission_mode": "bypassPermissions"}
    with anyio.fail_after(LIMIT):
        async with (
            script(ToolUse("Bash", {"command": "echo hi > f; cat f"}), Text("Done.")) as model,
            HostedAgent(options, provider="local") as agent,
        ):
            await turn(agent, "hi")

    assert model.turns[1].tool_results[0].text == "hi"
