"""FakeCLI beside the bare SDK: speaks the CLI's side of the control protocol, misbehaves when told to."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    HookMatcher,
    InMemorySessionStore,
    PermissionResultAllow,
    PermissionResultDeny,
    ProcessError,
    ResultError,
    ResultMessage,
    SessionKey,
    StreamEvent,
    SystemMessage,
    TextBlock,
    ToolPermissionContext,
    ToolResultBlock,
    UserMessage,
    create_sdk_mcp_server,
    project_key_for_directory,
    query,
    tool,
)
from support.messages import texts

from agenthost import SandboxSpec, open_provider
from agenthost.testing import ApiError, Cut, FakeCLI, ModelRequest, ScriptedModel, Text, ToolUse, Turn

LIMIT = 60


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., ClaudeAgentOptions]:
    def make(cli: FakeCLI, **fields: Any) -> ClaudeAgentOptions:
        fields.setdefault("include_partial_messages", True)
        return ClaudeAgentOptions(cli_path=cli.write(tmp_path / "claude"), cwd=tmp_path, **fields)

    return make


@asynccontextmanager
async def connected(options: ClaudeAgentOptions) -> AsyncGenerator[ClaudeSDKClient]:
    async with ClaudeSDKClient(options) as client:
        yield client


async def turn(client: ClaudeSDKClient, prompt: str) -> list[Any]:
    await client.query(prompt)
    return [message async for message in client.receive_response()]


def results(messages: list[Any]) -> list[ToolResultBlock]:
    users = [message.content for message in messages if isinstance(message, UserMessage)]
    return [block for content in users for block in content if isinstance(block, ToolResultBlock)]


async def test_every_message_has_a_number_and_the_next_turn_goes_on_counting(options: Any) -> None:
    cli = FakeCLI([FakeCLI.text("Hello."), FakeCLI.partials(50)])
    with anyio.fail_after(LIMIT):
        async with connected(options(cli)) as client:
            messages = await turn(client, "hi")
            messages += await turn(client, "echo")
            messages += await turn(client, FakeCLI.prompt(FakeCLI.partials(2), FakeCLI.result(num_turns=7)))

    assert [FakeCLI.number(message) for message in messages] == list(range(1, len(messages) + 1))
    assert sum(isinstance(message, StreamEvent) for message in messages) == 52
    assert texts(messages) == ["Hello.", "echo"]
    assert [message.num_turns for message in messages if isinstance(message, ResultMessage)] == [1, 1, 7]
    assert FakeCLI.number(TextBlock("no message of a FakeCLI")) is None


async def test_a_tool_does_what_hooks_and_the_permission_callback_say(options: Any) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    async def decide(name: str, given: dict[str, Any], _: ToolPermissionContext) -> Any:
        asked.append((name, given))
        if given["command"] == "rm":
            return PermissionResultDeny(message="not that")
        return PermissionResultAllow(updated_input={"command": "ls -a"})

    async def look(given: Any, _use: str | None, _context: Any) -> Any:
        if given["tool_input"]["command"] == "dd":
            said = {"hookEventName": "PreToolUse", "permissionDecision": "deny"}
            return {"hookSpecificOutput": {**said, "permissionDecisionReason": "no dd"}}
        return {}

    calls = [FakeCLI.tool("Bash", {"command": name}, ask=True) for name in ("ls", "rm", "dd")]
    cli = FakeCLI([calls[0], FakeCLI.tools(*calls[1:], FakeCLI.tool("Read", {}, result="free"))])
    hooks = {"PreToolUse": [HookMatcher(matcher="Bash", hooks=[look])]}
    with anyio.fail_after(LIMIT):
        async with connected(options(cli, can_use_tool=decide, hooks=hooks)) as client:
            messages = await turn(client, "go")

    assert asked == [("Bash", {"command": "ls"}), ("Bash", {"command": "rm"})]
    assert [(block.content, block.is_error) for block in results(messages)] == [
        ('{"command": "ls -a"}', False),
        ("not that", True),
        ("no dd", True),
        ("free", False),
    ]


async def test_an_in_process_mcp_server_is_called_and_an_event_reaches_its_hooks(options: Any) -> None:
    @tool("add", "adds", {"a": int, "b": int})
    async def add(given: dict[str, Any]) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": str(given["a"] + given["b"])}]}

    async def notified(given: Any, _use: str | None, _context: Any) -> Any:
        return {"systemMessage": given["message"].upper()}

    cli = FakeCLI(
        [FakeCLI.tool("mcp__calc__add", {"a": 2, "b": 3}), FakeCLI.hook("Notification", message="done")]
    )
    servers = {"calc": create_sdk_mcp_server("calc", tools=[add])}
    hooks = {"Notification": [HookMatcher(hooks=[notified])]}
    with anyio.fail_after(LIMIT):
        async with connected(options(cli, mcp_servers=servers, hooks=hooks)) as client:
            messages = await turn(client, "go")
            status: Any = await client.get_mcp_status()

    assert results(messages)[0].content == [{"type": "text", "text": "5"}]
    told = [message.data for message in messages if isinstance(message, SystemMessage)]
    assert told[0]["tools"] == ["mcp__calc__add"]
    assert told[1]["outputs"] == [{"systemMessage": "DONE"}]
    assert [server["name"] for server in status["mcpServers"]] == ["calc"]


async def test_a_model_is_asked_and_asked_again_when_its_answer_was_cut(options: Any) -> None:
    script = [
        Turn(Text("Par", end=False), Cut()),
        ApiError(529),
        ToolUse("Bash", {"command": "ls"}),
        Text("Done."),
    ]
    async with ScriptedModel(script, api_key="sk-ant-test") as model:
        env = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "sk-ant-test"}
        with anyio.fail_after(LIMIT):
            async with connected(options(FakeCLI([FakeCLI.model()]), env=env)) as client:
                messages = await turn(client, "What is there?")
        model.assert_played()

    retries = [message.data for message in messages if getattr(message, "subtype", "") == "api_retry"]
    assert [(retry["attempt"], retry["error_status"]) for retry in retries] == [(1, None), (2, 529)]
    assert texts(messages) == ["Done."]
    assert model.turns[0].prompt == "What is there?"
    # Without can_use_tool there is nobody to ask.
    assert model.turns[3].tool_results[0].is_error


async def test_a_model_that_refuses_is_an_error_of_the_turn_and_of_the_exit_code(options: Any) -> None:
    def refuse(_: ModelRequest) -> ApiError:
        return ApiError(400, "no such thing")

    messages: list[Any] = []
    async with ScriptedModel(refuse) as model:
        env = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "sk-ant-test"}
        made = options(FakeCLI([FakeCLI.model()]), env=env)
        with anyio.fail_after(LIMIT), pytest.raises(ResultError, match="no such thing"):
            async for message in query(prompt="hi", options=made):
                messages.append(message)  # noqa: PERF401 - what came before the error counts

    assert len(model.requests) == 1
    assert (messages[-1].is_error, messages[-1].api_error_status) == (True, 400)


async def test_an_interrupt_ends_whatever_the_turn_is_at_and_the_next_one_plays(options: Any) -> None:
    begun = anyio.Event()
    cancelled: list[str] = []
    ends: list[str | None] = []

    async def wait(name: str, _given: Any, _context: Any) -> Any:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(name)

    async def held(_: ModelRequest) -> Text:
        begun.set()
        await anyio.sleep_forever()
        raise AssertionError("not reached")

    steps = [FakeCLI.tool("Bash", ask=True), FakeCLI.model(), FakeCLI.stall(), FakeCLI.until("set_model")]
    cli = FakeCLI(*([FakeCLI.text("begun"), step] for step in steps))
    async with ScriptedModel([held]) as model:
        env = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "sk-ant-test"}
        with anyio.fail_after(LIMIT):
            async with connected(options(cli, env=env, can_use_tool=wait)) as client:
                for step in steps:
                    begun = anyio.Event()
                    await client.query("go")
                    async for message in client.receive_response():
                        if texts([message]) == ["begun"]:
                            if step["do"] in ("tools", "model"):
                                await begun.wait()
                            await client.interrupt()
                        if isinstance(message, ResultMessage):
                            ends.append(message.terminal_reason)
                assert texts(await turn(client, "still there")) == ["still there"]

    assert cancelled == ["Bash"]
    assert ends == ["aborted_streaming"] * 4


async def test_a_question_can_be_withdrawn_and_a_wait_ended_by_a_control_request(options: Any) -> None:
    asked, cancelled = anyio.Event(), anyio.Event()

    async def wait(_name: str, _given: Any, _context: Any) -> Any:
        asked.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    question = FakeCLI.tool("Bash", ask=True, withdraw_at="set_model")
    cli = FakeCLI([question, FakeCLI.until("mcp_status"), FakeCLI.text("through")])
    with anyio.fail_after(LIMIT):
        async with connected(options(cli, can_use_tool=wait)) as client:
            await client.query("go")
            await asked.wait()
            await client.set_model("other")
            await cancelled.wait()
            await client.get_mcp_status()
            messages = [message async for message in client.receive_response()]

    assert results(messages)[0].content == "the question was withdrawn"
    assert texts(messages) == ["through"]


async def test_a_session_store_gets_what_the_script_mirrors(options: Any) -> None:
    store = InMemorySessionStore()
    config = {"CLAUDE_CONFIG_DIR": "/nowhere/claude"}
    with anyio.fail_after(LIMIT):
        async with connected(
            options(FakeCLI([FakeCLI.mirror(5)]), session_store=store, env=config)
        ) as client:
            messages = await turn(client, "go")
            directory = messages[0].data["cwd"]
            found = await _entries(store, directory, messages[-1].session_id)

    assert [entry["number"] for entry in found] == list(range(5))


async def _entries(store: InMemorySessionStore, directory: str, session: str) -> list[Any]:
    key: SessionKey = {"project_key": project_key_for_directory(directory), "session_id": session}
    return list(await store.load(key) or ())


async def drain(client: ClaudeSDKClient) -> list[Any]:
    return [message async for message in client.receive_messages()]


@pytest.mark.parametrize(
    ("steps", "code"),
    [([FakeCLI.leave(3)], 3), ([FakeCLI.leave(-signal.SIGKILL)], -9), ([FakeCLI.raw(b"{")], 0)],
)
async def test_it_crashes_as_told(options: Any, steps: list[Any], code: int) -> None:
    cli = FakeCLI([FakeCLI.raw(b"no json\n"), *steps, FakeCLI.no_result(), FakeCLI.leave(0)])
    with anyio.fail_after(LIMIT):
        async with connected(options(cli)) as client:
            await client.query("go")
            if code:
                with pytest.raises(ProcessError) as caught:
                    await drain(client)
                assert caught.value.exit_code == code
            else:
                assert [type(message) for message in await drain(client)] == [SystemMessage]


async def test_it_fails_at_its_start_as_told(options: Any) -> None:
    lines: list[str] = []
    cli = FakeCLI(at_start=[FakeCLI.stderr("no licence"), FakeCLI.leave(4)])
    with anyio.fail_after(LIMIT):
        with pytest.raises(ProcessError) as caught:
            await ClaudeSDKClient(options(cli, stderr=lines.append)).connect()

    assert caught.value.exit_code == 4
    assert lines == ["no licence"]


async def test_it_refuses_a_session_that_is_not_there_as_the_cli_does(options: Any) -> None:
    cli = FakeCLI(at_start=[FakeCLI.refuse("No conversation found")])
    with anyio.fail_after(LIMIT):
        with pytest.raises(ResultError) as caught:
            await ClaudeSDKClient(options(cli, resume="5ac0ffee-0000-4000-8000-000000000000")).connect()

    assert caught.value.errors == ["No conversation found"]


async def test_it_reports_how_it_was_called_and_leaves_after_its_turn(options: Any, tmp_path: Path) -> None:
    cli = FakeCLI([FakeCLI.report(tmp_path / "told"), FakeCLI.leave(0, after_result=True)])
    with anyio.fail_after(LIMIT):
        async with connected(options(cli, model="some-model", env={"GREETING": "häi"})) as client:
            await client.query("go")
            messages = await drain(client)

    told = json.loads((tmp_path / "told").read_text())
    assert told["argv"][told["argv"].index("--model") + 1] == "some-model"
    assert (told["env"]["GREETING"], told["cwd"], told["children"]) == ("häi", str(tmp_path), [])
    assert [type(message) for message in messages] == [SystemMessage, ResultMessage]


async def test_prompts_are_answered_in_order_each_by_its_own_result(options: Any) -> None:
    async def prompts() -> AsyncIterator[dict[str, Any]]:
        for number in range(3):
            content = {"role": "user", "content": f"prompt {number}"}
            yield {"type": "user", "message": content, "uuid": f"u{number}", "parent_tool_use_id": None}

    with anyio.fail_after(LIMIT):
        messages = [message async for message in query(prompt=prompts(), options=options(FakeCLI()))]

    assert texts(messages) == ["prompt 0", "prompt 1", "prompt 2"]
    answered = [message.user_message_uuids for message in messages if isinstance(message, ResultMessage)]
    assert answered == [["u0"], ["u1"], ["u2"]]


@pytest.mark.parametrize("provider", ["local", pytest.param("local-unisolated", marks=pytest.mark.full)])
async def test_it_runs_inside_a_sandbox(provider: str) -> None:
    with anyio.fail_after(LIMIT):
        async with open_provider(provider) as made:
            sandbox = await made.create(SandboxSpec())
            try:
                path = await FakeCLI().put(sandbox)
                frame = b'{"type":"user","message":{"role":"user","content":"hi"}}\n'
                ran = await sandbox.exec([path, "--output-format", "stream-json"], stdin=frame, timeout=30)
            finally:
                await sandbox.terminate()

    assert (ran.exit_code, ran.stderr) == (0, b"")
    assert [line.split(b'"')[3] for line in ran.stdout.splitlines()] == [b"system", b"assistant", b"result"]


def test_equal_scripts_are_equal_programs() -> None:
    assert FakeCLI([FakeCLI.text("x")]).source() == FakeCLI([FakeCLI.text("x")]).source()
    assert FakeCLI([FakeCLI.text("x")]).source() != FakeCLI([FakeCLI.text("y")]).source()
