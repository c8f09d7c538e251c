"""A FakeAgent is used as a HostedAgent is, and plays a script."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    CLIConnectionError,
    HookMatcher,
    PermissionResultAllow,
    PermissionResultDeny,
    ProcessError,
    ResultError,
    ResultMessage,
    SystemMessage,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from agenthost import HostedAgent
from agenthost.errors import BootstrapError, ConfigError, SandboxGoneError
from agenthost.testing import FakeAgent, FakeSandbox, Hold, HookCall, ScriptError, Stall, ToolCall

LIMIT = 20.0  # seconds until a test is taken to hang

# Ways to get an agent, which a test does not need: it has the FakeAgent.
MAKERS = {"attach", "from_config"}


def test_its_methods_are_those_of_hosted_agent() -> None:
    for name, method in vars(HostedAgent).items():
        if name in MAKERS or (name.startswith("_") and name not in ("__aenter__", "__aexit__")):
            continue
        own = vars(FakeAgent).get(name)
        assert type(own) is type(method), f"FakeAgent lacks {name}"
        if inspect.isfunction(method):
            assert inspect.signature(own) == inspect.signature(method), name  # pyright: ignore[reportArgumentType] - of the same type
            assert inspect.iscoroutinefunction(own) == inspect.iscoroutinefunction(method), name
        elif isinstance(method, property):
            assert isinstance(own, property)
            assert (
                inspect.signature(own.fget or len).return_annotation
                == inspect.signature(method.fget or len).return_annotation
            )


async def said(agent: HostedAgent) -> list[str]:
    """Return the texts up to the next result, as an application reads them."""
    return [
        block.text
        async for message in agent.receive_response()
        if isinstance(message, AssistantMessage)
        for block in message.content
        if isinstance(block, TextBlock)
    ]


async def test_prompts_are_answered_in_order_and_kept() -> None:
    one = SystemMessage("init", {})
    given = ResultMessage("success", 5, 4, False, 7, "other", total_cost_usd=0.5, result="given")
    async with FakeAgent([[one, "Hello.", "Bye."], ["Two."], [given]]) as agent:
        await agent.query("first")
        await agent.query("second")
        messages = [message async for message in agent.receive_response()]
        assert messages[0] is one
        assert isinstance(messages[-1], ResultMessage)
        assert (messages[-1].result, messages[-1].session_id) == ("Bye.", agent.session_id)
        assert await said(agent) == ["Two."]
        await agent.query("third")
        assert [message async for message in agent.receive_response()] == [given]
        assert (agent.usage.results, agent.usage.turns, agent.usage.total_cost_usd) == (3, 9, 0.5)
        assert agent.cursor.seq == 7
        await agent.ack(agent.cursor)
    assert agent.prompts == ["first", "second", "third"]
    assert [name for name, _ in agent.calls] == ["connect", "query", "query", "query", "ack", "disconnect"]


async def test_a_function_answers_whatever_comes() -> None:
    async def stream() -> AsyncIterator[dict[str, Any]]:
        for text in ("a", "b"):
            yield {"type": "user", "message": {"role": "user", "content": text}}

    def answer(prompt: str | dict[str, Any]) -> list[Any]:
        return [prompt if isinstance(prompt, str) else prompt["message"]["content"].upper()]

    async with FakeAgent(answer) as agent:
        await agent.query("plain")
        await agent.query(stream())
        assert [await said(agent) for _ in range(3)] == [["plain"], ["A"], ["B"]]
        await agent.finish_input()
        assert [message async for message in agent.receive_messages()] == []
    other = FakeAgent(answer)
    await other.connect(stream())
    assert len([message async for message in other.receive_messages()]) == 4
    await other.disconnect()


def tools_of(messages: list[Any]) -> list[tuple[str | list[Any] | None, bool | None]]:
    blocks = [message.content[0] for message in messages if isinstance(message, UserMessage)]
    return [(block.content, block.is_error) for block in blocks if isinstance(block, ToolResultBlock)]


async def test_the_functions_of_the_options_are_asked() -> None:
    seen: list[Any] = []

    async def decide(name: str, given: dict[str, Any], context: Any) -> Any:
        seen.append((name, given["command"], context.tool_use_id))
        return PermissionResultAllow() if given["command"] == "ls" else PermissionResultDeny(message="no")

    async def before(given: Any, tool_use_id: str | None, _: Any) -> Any:
        seen.append((given["hook_event_name"], given["tool_input"], tool_use_id))
        if given["tool_input"].get("path") == "/etc":
            return {"hookSpecificOutput": {"permissionDecision": "deny", "permissionDecisionReason": "never"}}
        return {"hookSpecificOutput": {"permissionDecision": "allow"}}

    async def after(given: Any, _: str | None, __: Any) -> Any:
        seen.append((given["hook_event_name"], given.get("tool_response")))
        return {}

    options = ClaudeAgentOptions(
        can_use_tool=decide,
        allowed_tools=["Glob"],
        hooks={
            "PreToolUse": [HookMatcher(matcher="Read|Write", hooks=[before])],
            "PostToolUse": [HookMatcher(hooks=[after])],
            "Stop": [HookMatcher(hooks=[after])],
        },
    )
    script = [
        ToolCall("Bash", {"command": "ls"}, result="a b"),
        ToolCall("Bash", {"command": "rm"}, result="gone"),
        ToolCall("Read", {"path": "/etc"}, result="secret"),
        ToolCall("Write", {"path": "x"}, result="failed", is_error=True),
        ToolCall("Glob", result="all"),
        HookCall("Stop"),
    ]
    async with FakeAgent([script], options=options) as agent:
        await agent.query("go")
        messages = [message async for message in agent.receive_response()]
    wanted = [
        block for message in messages if isinstance(message, AssistantMessage) for block in message.content
    ]
    assert [block.name for block in wanted if isinstance(block, ToolUseBlock)] == [
        "Bash",
        "Bash",
        "Read",
        "Write",
        "Glob",
    ]
    assert tools_of(messages) == [
        ("a b", None),
        ("no", True),
        ("never", True),
        ("failed", True),
        ("all", None),
    ]
    assert seen == [
        ("Bash", "ls", "toolu_fake_1"),
        ("PostToolUse", "a b"),
        ("Bash", "rm", "toolu_fake_2"),
        ("PreToolUse", {"path": "/etc"}, "toolu_fake_3"),
        ("PreToolUse", {"path": "x"}, "toolu_fake_4"),
        ("PostToolUse", "failed"),
        ("PostToolUse", "all"),
        ("Stop", None),
    ]
    assert [one.what for one in agent.asked] == [
        "can_use_tool",
        "PostToolUse",
        "can_use_tool",
        "PreToolUse",
        "PreToolUse",
        "PostToolUse",
        "PostToolUse",
        "Stop",
    ]
    assert agent.asked[2].answer == PermissionResultDeny(message="no")


async def test_a_denial_can_interrupt_and_a_mode_can_bypass() -> None:
    async def deny(*_: Any) -> Any:
        return PermissionResultDeny(message="stop", interrupt=True)

    call = ToolCall("Bash", {"command": "x"}, result="ran")
    async with FakeAgent([[call, "never"], [call]], options={"can_use_tool": deny}) as agent:
        await agent.query("one")
        messages = [message async for message in agent.receive_response()]
        assert tools_of(messages) == [("stop", True)]
        assert isinstance(messages[-1], ResultMessage)
        assert messages[-1].subtype == "error_during_execution"
        await agent.set_permission_mode("bypassPermissions")
        await agent.query("two")
        assert tools_of([message async for message in agent.receive_response()]) == [("ran", None)]


async def test_an_interrupt_from_another_task_ends_the_turn() -> None:
    async with FakeAgent([["One.", Stall(), "never"], ["Two."]]) as agent:
        with anyio.fail_after(LIMIT):
            await agent.query("go")
            messages: list[Any] = []
            async with anyio.create_task_group() as tasks:
                async for message in agent.receive_response():
                    if isinstance(message, AssistantMessage):
                        tasks.start_soon(agent.interrupt)
                    messages.append(message)
            last = messages[-1]
            assert (last.is_error, last.subtype) == (True, "error_during_execution")
            await agent.query("on")
            assert await said(agent) == ["Two."]


async def test_a_turn_that_nobody_has_read_yet_is_interrupted_too() -> None:
    async with FakeAgent([["One."], ["Two."]]) as agent:
        await agent.query("one")
        await agent.interrupt()
        await agent.query("two")
        assert await said(agent) == []
        assert await said(agent) == ["Two."]


async def test_a_read_that_is_cancelled_loses_nothing() -> None:
    event = anyio.Event()
    async with FakeAgent([["One.", Hold(event), "Two."]]) as agent:
        await agent.query("go")
        assert isinstance(await anext(agent.receive_messages()), AssistantMessage)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(said, agent)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        event.set()
        with anyio.fail_after(LIMIT):
            assert await said(agent) == ["Two."]


async def test_leaving_ends_who_reads() -> None:
    agent = FakeAgent()
    await agent.connect()
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                assert [message async for message in agent.receive_messages()] == []

            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            await agent.disconnect()
    await agent.disconnect()


async def test_errors_of_the_script_are_the_sdks_own_and_end_the_agent() -> None:
    async with FakeAgent([["One.", ProcessError("died", exit_code=3, stderr="why")]]) as agent:
        await agent.query("go")
        with pytest.raises(ProcessError, match="died") as caught:
            await said(agent)
        assert caught.value.exit_code == 3
        for _ in range(2):
            with pytest.raises(ProcessError, match="died"):
                await said(agent)
        with pytest.raises(ProcessError, match="died"):
            await agent.query("more")


async def test_a_last_result_that_is_an_error_is_raised_when_the_input_is_finished() -> None:
    failed = ResultMessage("error_max_turns", 1, 1, True, 9, "s")
    async with FakeAgent([[failed]]) as agent:
        await agent.query("go")
        await agent.finish_input()
        seen: list[Any] = []
        with pytest.raises(ResultError) as caught:
            async for message in agent.receive_messages():
                seen.append(message)  # noqa: PERF401 - what was read before the error counts
        assert seen == [failed]
        assert caught.value.subtype == "error_max_turns"


async def test_calls_return_and_raise_what_was_said() -> None:
    status = {"mcpServers": [{"name": "one", "status": "failed"}]}
    answers = {"get_mcp_status": status, "set_model": ProcessError("no such model")}
    async with FakeAgent(answers=answers) as agent:
        assert await agent.get_mcp_status() == status
        assert (await agent.get_server_info() or {})["commands"] == []
        assert (await agent.get_context_usage())["totalTokens"] == 0
        with pytest.raises(ProcessError, match="no such model"):
            await agent.set_model("wrong")
        await agent.rewind_files("m1")
        await agent.stop_task("t1")
        await agent.reconnect_mcp_server("one")
        await agent.toggle_mcp_server("one", False)
    assert ("toggle_mcp_server", {"server_name": "one", "enabled": False}) in agent.calls
    with pytest.raises(BootstrapError, match="no Python"):
        async with FakeAgent(answers={"connect": BootstrapError("no Python")}):
            pass


async def test_what_is_out_of_order_is_refused_as_by_hosted_agent() -> None:
    agent = FakeAgent()
    with pytest.raises(CLIConnectionError, match="Not connected"):
        await agent.query("x")
    with pytest.raises(CLIConnectionError, match="Not connected"):
        agent.receive_messages()
    async with agent:
        with pytest.raises(ConfigError, match="connected already"):
            await agent.connect()
        await agent.query("unexpected")
        with pytest.raises(ScriptError, match="unexpected"):
            await said(agent)
    async with FakeAgent() as other:
        with pytest.raises(ConfigError, match="beyond"):
            await other.ack(type(other.cursor)(5, 5))
        await other.finish_input()
        assert [message async for message in other.receive_messages()] == []
        with pytest.raises(CLIConnectionError, match="has ended"):
            await other.query("late")
        ref = await other.detach(keep_for=60)
        assert ref.to_json()


async def test_its_sandbox_is_a_fake_whose_files_can_be_downloaded(tmp_path: Path) -> None:
    box = FakeSandbox(files={"out/a.txt": b"1", "/etc/other": b"2"})
    async with FakeAgent(sandbox=box) as agent:
        assert agent.sandbox is box
        told = await agent.download(tmp_path / "back")
        assert (told.files, told.size) == (1, 1)
        assert (tmp_path / "back" / "out" / "a.txt").read_bytes() == b"1"
        with pytest.raises(FileNotFoundError):
            await agent.download(tmp_path / "none", "/no")
        box.end()
        with pytest.raises(SandboxGoneError):
            await agent.sandbox.exec(["true"])
