"""The host's functions are called from the sandbox as the SDK calls them on a laptop."""

from __future__ import annotations

import asyncio  # noqa: TID251 - its futures are what is tested: they are cancelled without any scope
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from agent.turns import Unanswered, turn
from claude_agent_sdk import (
    ClaudeAgentOptions,
    HookMatcher,
    InMemorySessionStore,
    MirrorErrorMessage,
    PermissionResultAllow,
    create_sdk_mcp_server,
    tool,
)
from support.messages import results, texts

from agenthost import HostedAgent
from agenthost.errors import AgentHostError
from agenthost.testing import FakeCLI, ModelRequest, Text, ToolUse

LIMIT = 120
PLAIN = "local-unisolated"


@pytest.mark.parametrize("provider", ["local", pytest.param(PLAIN, marks=pytest.mark.full)])
async def test_all_of_them_at_once_in_one_turn(script: Any, provider: str) -> None:
    seen: list[str] = []

    @tool("add", "adds", {"a": int, "b": int})
    async def add(given: dict[str, Any]) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": str(given["a"] + given["b"])}]}

    async def decide(name: str, given: dict[str, Any], context: Any) -> PermissionResultAllow:
        seen.append(f"decide {name} {context.tool_use_id is not None}")
        return PermissionResultAllow(updated_input={**given, "command": "echo changed"})

    async def before(given: Any, _tool_use_id: str | None, _context: Any) -> dict[str, Any]:
        seen.append(f"before {given['tool_name']}")
        return {}

    store = RecordingStore()
    options = ClaudeAgentOptions(
        can_use_tool=decide,
        hooks={"PreToolUse": [HookMatcher(matcher="Bash", hooks=[before])]},  # type: ignore[list-item] # a plain dict is an output
        mcp_servers={"calc": create_sdk_mcp_server("calc", tools=[add])},
        allowed_tools=["mcp__calc__add"],
        session_store=store,
    )
    steps = [
        ToolUse("Bash", {"command": "touch x; echo original"}),
        ToolUse("mcp__calc__add", {"a": 1, "b": 2}),
        Text("Done."),
    ]
    with anyio.fail_after(LIMIT):
        async with script(*steps), HostedAgent(options, provider=provider) as agent:
            messages = await turn(agent, "go")
            assert {key["session_id"] for key in store.keys} == {agent.session_id}
            assert await store.load(store.keys[0])
    assert results(messages) == ["changed", "3"]
    assert seen == ["before Bash", "decide Bash True"]


class RecordingStore(InMemorySessionStore):
    """Notes the keys that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[Any] = []

    async def append(self, key: Any, entries: Any) -> None:
        self.keys.append(key)
        await super().append(key, entries)


async def test_a_function_that_raises_answers_with_its_text_whatever_it_raises(script: Any) -> None:
    async def decide(*_: object) -> PermissionResultAllow:
        raise AgentHostError("not today")

    with anyio.fail_after(LIMIT):
        async with (
            script(ToolUse("Bash", {"command": "touch x"}), Text("Done.")),
            HostedAgent(ClaudeAgentOptions(can_use_tool=decide), provider=PLAIN) as agent,
        ):
            messages = await turn(agent, "go")
    assert results(messages) == ["Tool permission request failed: Error: not today"]


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
async def test_a_number_that_json_does_not_have_is_an_error_of_the_function_and_the_turn_goes_on(
    script: Any, number: float
) -> None:
    async def decide(_name: str, given: dict[str, Any], _context: Any) -> PermissionResultAllow:
        return PermissionResultAllow(updated_input={**given, "timeout": number})

    with anyio.fail_after(LIMIT):
        async with (
            script(ToolUse("Bash", {"command": "touch x"}), Text("Done.")),
            HostedAgent(ClaudeAgentOptions(can_use_tool=decide), provider=PLAIN) as agent,
        ):
            messages = await turn(agent, "go")
    told = f"the answer.updated_input['timeout'] is {number!r}, a number that JSON does not have"
    assert results(messages) == [f"Tool permission request failed: Error: {told}"]
    assert texts(messages) == ["Done."]


async def wait_for_what_is_cancelled_elsewhere() -> None:
    """Await a future that another task cancels, as when a browser leaves."""
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.cancel)
    await future


async def raise_a_group() -> None:
    """Raise what a task group of asyncio may."""
    raise BaseExceptionGroup("two at once", [asyncio.CancelledError(), ValueError("no")])


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("fails", "told"),
    [(wait_for_what_is_cancelled_elsewhere, "CancelledError"), (raise_a_group, "two at once")],
)
async def test_a_cancellation_that_is_not_the_agents_is_an_exception_of_the_function(
    fails: Callable[[], Awaitable[None]], told: str, anyio_backend: str, tmp_path: Path
) -> None:
    class Store(InMemorySessionStore):
        async def append(self, key: Any, entries: Any) -> None:
            del key, entries
            await fails()

    async def decide(*_: object) -> PermissionResultAllow:
        await fails()
        return PermissionResultAllow()

    async def after(*_: object) -> dict[str, Any]:
        await fails()
        return {}

    assert anyio_backend == "asyncio"
    cli = FakeCLI(
        [FakeCLI.tool("Bash", ask=True), FakeCLI.mirror(1), FakeCLI.hook("Stop"), FakeCLI.text("Bye.")]
    )
    options = ClaudeAgentOptions(
        cli_path=cli.write(tmp_path / "claude"),
        can_use_tool=decide,
        hooks={"Stop": [HookMatcher(hooks=[after])]},  # type: ignore[list-item] # a plain dict is an output
        session_store=Store(),
    )
    with anyio.fail_after(LIMIT):
        async with HostedAgent(options, provider=PLAIN) as agent:
            messages = await turn(agent, "go")
    assert told in results(messages)[0]
    assert told in next(str(one.error) for one in messages if isinstance(one, MirrorErrorMessage))
    assert texts(messages) == ["Bye."]


async def test_a_hook_that_takes_too_long_is_cancelled_and_its_tool_not_run(script: Any) -> None:
    question = Unanswered()
    matcher = HookMatcher(matcher="Bash", hooks=[question.call], timeout=0.2)
    with anyio.fail_after(LIMIT):
        async with (
            script(ToolUse("Bash", {"command": "echo ran"}), Text("Done.")),
            HostedAgent(
                ClaudeAgentOptions(hooks={"PreToolUse": [matcher]}, allowed_tools=["Bash"]), provider=PLAIN
            ) as agent,
        ):
            messages = await turn(agent, "go")
            await question.cancelled.wait()
    assert "PreToolUse hook did not respond before its timeout" in results(messages)[0]


async def test_an_interrupt_cancels_what_is_being_decided(script: Any) -> None:
    question = Unanswered()
    with anyio.fail_after(LIMIT):
        async with (
            script(ToolUse("Bash", {"command": "touch x"}), Text("Next.")),
            HostedAgent(ClaudeAgentOptions(can_use_tool=question.call), provider=PLAIN) as agent,
        ):
            await agent.query("go")
            await question.called.wait()
            await agent.interrupt()
            await question.cancelled.wait()
            messages: list[Any] = [message async for message in agent.receive_response()]
            assert messages[-1].subtype == "error_during_execution"
            assert (await turn(agent, "again"))[-1].result == "Next."


async def test_a_session_is_resumed_from_a_store_in_a_fresh_sandbox(script: Any) -> None:
    store = InMemorySessionStore()

    def heard(request: ModelRequest) -> Text:
        said = str(request.body["messages"])
        return Text("I know." if "the word is Xyzzy" in said and "remember" in said else "What?")

    with anyio.fail_after(LIMIT):
        async with script(Text("I remember."), heard):
            async with HostedAgent(ClaudeAgentOptions(session_store=store), provider="local") as first:
                await turn(first, "the word is Xyzzy")
                session = first.session_id
            options = ClaudeAgentOptions(session_store=store, resume=session)
            async with HostedAgent(options, provider="local") as second:
                assert (await turn(second, "do you remember it?"))[-1].result == "I know."
                assert second.session_id == session


class FailingStore:
    """Takes nothing."""

    def __init__(self) -> None:
        self.attempts = 0

    async def append(self, key: Any, entries: Any) -> None:
        self.attempts += 1
        raise OSError(f"no room for {len(entries) > 0} in {key['project_key'] != ''}")

    async def load(self, key: Any) -> None:
        raise OSError(f"nothing is in {key}")


async def test_a_batch_that_a_store_refuses_three_times_is_told_before_the_result(script: Any) -> None:
    store: Any = FailingStore()
    with anyio.fail_after(LIMIT):
        async with (
            script(Text("Done.")),
            HostedAgent(ClaudeAgentOptions(session_store=store), provider=PLAIN) as agent,
        ):
            messages = await turn(agent, "go")
            told = [message for message in messages if isinstance(message, MirrorErrorMessage)]
            assert [one.error for one in told] == ["no room for True in True"]
            assert told[0].key is not None
            assert told[0].key["session_id"] == agent.session_id
    assert store.attempts % 3 == 0


async def test_a_server_that_ends_answers_with_an_error_and_the_turn_goes_on(script: Any) -> None:
    class Broken:
        """A server whose run returns at once."""

        def create_initialization_options(self) -> None:
            return

        async def run(self, *_: object, **__: object) -> None:
            return

    servers: Any = {"gone": {"type": "sdk", "name": "gone", "instance": Broken()}}
    with anyio.fail_after(LIMIT):
        async with (
            script(Text("Done.")),
            HostedAgent(ClaudeAgentOptions(mcp_servers=servers), provider=PLAIN) as agent,
        ):
            assert (await turn(agent, "go"))[-1].result == "Done."
            status: Any = await agent.get_mcp_status()
            assert [one["status"] for one in status["mcpServers"]] == ["failed"]


@pytest.mark.parametrize("way", ["ask", "mcp"])
async def test_what_a_tool_is_given_may_look_like_an_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-the-host")
    given = {"kind": "message", "message": {"$type": "ResultMessage"}, "seq": 1}
    came: list[Any] = []

    async def decide(_: str, data: dict[str, Any], __: object) -> PermissionResultAllow:
        came.append(data)
        return PermissionResultAllow()

    @tool("take", "takes", {"kind": str})
    async def take(data: dict[str, Any]) -> dict[str, Any]:
        came.append(data)
        return {"content": [{"type": "text", "text": "taken"}]}

    step = FakeCLI.tool("Bash", given, ask=True) if way == "ask" else FakeCLI.tool("mcp__mine__take", given)
    options: Any = {
        "cli_path": FakeCLI([step, FakeCLI.text("Done.")]).write(tmp_path / "claude"),
        "can_use_tool": decide,
        "allowed_tools": ["mcp__mine__take"],
        "mcp_servers": {"mine": create_sdk_mcp_server("mine", tools=[take])},
    }
    with anyio.fail_after(LIMIT):
        async with HostedAgent(options, provider=PLAIN) as agent:
            await turn(agent, "go")
    assert came == [given]
