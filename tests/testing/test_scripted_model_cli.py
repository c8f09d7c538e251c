"""The real ``claude`` CLI plays along with a ScriptedModel."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    Message,
    ResultError,
    ResultMessage,
    ServerToolResultBlock,
    ServerToolUseBlock,
    StreamEvent,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
    query,
)
from support.messages import texts
from testing.claude_cli import FAKE_KEY, ask, cli_options

from agenthost.testing import (
    ApiError,
    Block,
    Cut,
    Hold,
    ModelRequest,
    ScriptedModel,
    Stall,
    StreamError,
    Text,
    Thinking,
    ToolUse,
    Turn,
)


async def ask_until_error(options: ClaudeAgentOptions) -> list[Message]:
    """Return what came before the ResultError, in which a failed turn must end."""
    messages: list[Message] = []

    async def read() -> None:
        async for message in query(prompt="Go on.", options=options):
            messages.append(message)  # noqa: PERF401 - a comprehension would lose them at the error

    with pytest.raises(ResultError):
        await read()
    return messages


def result(messages: list[Message]) -> ResultMessage:
    last = messages[-1]
    assert isinstance(last, ResultMessage)
    return last


async def test_a_text_turn_arrives_as_the_sdk_own_message(tmp_path: Path) -> None:
    async with ScriptedModel([Text("hello \N{WAVING HAND SIGN}\n\u2028 there")]) as model:
        messages = await ask(cli_options(model.url, tmp_path), 'say "hi"\nplease \N{WAVING HAND SIGN}')
    assert texts(messages) == ["hello \N{WAVING HAND SIGN}\n\u2028 there"]
    assert result(messages).subtype == "success"
    model.assert_played()
    (request,) = model.turns
    assert request.api_key == FAKE_KEY
    assert request.prompt == 'say "hi"\nplease \N{WAVING HAND SIGN}'
    assert (request.method, request.path) == ("POST", "/v1/messages")


async def test_the_cli_tools_read_edit_write_and_run_what_the_script_says(tmp_path: Path) -> None:
    options = cli_options("", tmp_path, allowed_tools=["Read", "Edit", "Write", "Bash"])
    work = Path(str(options.cwd))
    (work / "sum.py").write_text("print(1 - 1)\n")
    target = str(work / "sum.py")
    script = [
        ToolUse("Read", {"file_path": target}),
        ToolUse("Edit", {"file_path": target, "old_string": "1 - 1", "new_string": "1 + 1"}, delta=7),
        ToolUse("Write", {"file_path": str(work / "new dir" / "it's.txt"), "content": "new\n"}),
        ToolUse("Bash", {"command": "python3 sum.py && cat 'new dir'/*"}),
        Text("done"),
    ]
    async with ScriptedModel(script) as model:
        options.env["ANTHROPIC_BASE_URL"] = model.url
        messages = await ask(options)
    assert texts(messages) == ["done"]
    assert (work / "sum.py").read_text() == "print(1 + 1)\n"
    assert "print(1 - 1)" in model.turns[1].tool_results[0].text
    assert model.turns[4].tool_results[0].text == "2\nnew"
    assert [request.tool_results[0].is_error for request in model.turns[1:]] == [False] * 4
    assert {"Read", "Edit", "Write", "Bash"} <= set(model.turns[0].tools)


async def test_several_tools_in_one_turn_are_answered_together_and_in_order(tmp_path: Path) -> None:
    both = [
        Text("Two things."),
        ToolUse("Bash", {"command": "echo one"}, id="toolu_one"),
        ToolUse("Bash", {"command": "echo two; exit 3"}, id="toolu_two"),
    ]
    async with ScriptedModel([both, Text("done")]) as model:
        messages = await ask(cli_options(model.url, tmp_path, allowed_tools=["Bash"]))
    tools = [
        block.id
        for message in messages
        if isinstance(message, AssistantMessage)
        for block in message.content
        if isinstance(block, ToolUseBlock)
    ]
    assert tools == ["toolu_one", "toolu_two"]
    one, two = model.turns[1].tool_results
    assert (one.tool_use_id, one.text, one.is_error) == ("toolu_one", "one", False)
    assert (two.tool_use_id, two.is_error) == ("toolu_two", True)
    assert "two" in two.text


async def test_a_step_may_be_a_function_of_the_request(tmp_path: Path) -> None:
    def second(request: ModelRequest) -> Text:
        return Text(f"it said {request.tool_results[0].text}")

    async with ScriptedModel([ToolUse("Bash", {"command": "echo 42"}), second]) as model:
        messages = await ask(cli_options(model.url, tmp_path, allowed_tools=["Bash"]))
    assert texts(messages) == ["it said 42"]


async def test_an_api_error_is_retried_by_the_cli_and_takes_one_step(tmp_path: Path) -> None:
    async with ScriptedModel([ApiError(529), ApiError(500), Text("at last")]) as model:
        messages = await ask(cli_options(model.url, tmp_path))
    assert texts(messages) == ["at last"]
    retries = [m for m in messages if isinstance(m, SystemMessage) and m.subtype == "api_retry"]
    assert [retry.data["error_status"] for retry in retries] == [529, 500]
    assert [request.step for request in model.turns] == [0, 1, 2]


async def test_a_refused_key_ends_the_turn_as_an_error(tmp_path: Path) -> None:
    async with ScriptedModel([Text("never")], api_key="another key") as model:
        messages = await ask_until_error(cli_options(model.url, tmp_path))
    assert result(messages).is_error
    assert result(messages).api_error_status == 401
    assert model.remaining == 1


async def test_a_request_beyond_the_script_fails_the_turn_by_name(tmp_path: Path) -> None:
    async with ScriptedModel([ToolUse("Bash", {"command": "true"})], strict=False) as model:
        messages = await ask_until_error(cli_options(model.url, tmp_path, allowed_tools=["Bash"]))
    assert "beyond the script of 1 steps" in str(result(messages).result)
    assert len(model.errors) == 1


async def test_partial_messages_arrive_delta_by_delta(tmp_path: Path) -> None:
    async with ScriptedModel([[Thinking("hm", "c2ln"), Text.deltas(40, 6)]]) as model:
        messages = await ask(cli_options(model.url, tmp_path, include_partial_messages=True))
    events = [message.event for message in messages if isinstance(message, StreamEvent)]
    deltas = [
        event["delta"]["text"] for event in events if event.get("delta", {}).get("type") == "text_delta"
    ]
    assert deltas == [f"{number:05} " for number in range(40)]
    assert texts(messages) == ["".join(deltas)]
    thoughts = [
        block
        for message in messages
        if isinstance(message, AssistantMessage)
        for block in message.content
        if isinstance(block, ThinkingBlock)
    ]
    assert [(thought.thinking, thought.signature) for thought in thoughts] == [("hm", "c2ln")]


@pytest.mark.full
async def test_twenty_thousand_deltas_arrive_once_and_in_order(tmp_path: Path) -> None:
    count = 0
    async with ScriptedModel([Text.deltas(20_000)]) as model:
        options = cli_options(model.url, tmp_path, include_partial_messages=True)
        async for message in query(prompt="Go on.", options=options):
            if (
                isinstance(message, StreamEvent)
                and message.event.get("delta", {}).get("type") == "text_delta"
            ):
                assert message.event["delta"]["text"] == f"{count:07} "
                count += 1
    assert count == 20_000


async def test_a_stalled_answer_can_be_interrupted(tmp_path: Path) -> None:
    script = [Turn(Text("half a sen", end=False), Stall()), Text("alive")]
    messages: list[Message] = []
    async with ScriptedModel(script) as model:
        options = cli_options(model.url, tmp_path, include_partial_messages=True)
        async with ClaudeSDKClient(options) as client:
            await client.query("Go.")
            async for message in client.receive_response():
                if isinstance(message, StreamEvent) and message.event["type"] == "content_block_delta":
                    await client.interrupt()
            await client.query("Still there?")
            messages = [message async for message in client.receive_response()]
    assert texts(messages) == ["alive"]
    model.assert_played()


async def test_a_held_answer_goes_on_when_the_event_is_set(tmp_path: Path) -> None:
    event = anyio.Event()
    script = [Turn(Text("one ", end=False), Hold(event), Text("two"))]
    messages: list[Message] = []
    async with ScriptedModel(script) as model:
        options = cli_options(model.url, tmp_path, include_partial_messages=True)
        async for message in query(prompt="Go on.", options=options):
            messages.append(message)
            if isinstance(message, StreamEvent) and message.event["type"] == "content_block_delta":
                event.set()
    assert texts(messages) == ["one two"]


@pytest.mark.parametrize("fault", [Cut(), StreamError()], ids=["cut", "stream-error"])
async def test_a_broken_stream_is_asked_again(tmp_path: Path, fault: Cut | StreamError) -> None:
    script = [Turn(Text("half", end=False), fault), Text("whole")]
    async with ScriptedModel(script) as model:
        messages = await ask(cli_options(model.url, tmp_path))
    assert texts(messages)[-1] == "whole"
    model.assert_played()


async def test_questions_of_the_cli_itself_take_no_step(tmp_path: Path) -> None:
    async with ScriptedModel([Text("hi")]) as model:
        # Without the switch the CLI asks for a title of the session, and whether the server is there.
        env = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": ""}
        messages = await ask(cli_options(model.url, tmp_path, env=env))
    assert texts(messages) == ["hi"]
    kinds = [request.kind for request in model.requests]
    assert kinds.count("turn") == 1
    assert "probe" in kinds


async def test_structured_output_of_the_agent_is_played_by_the_script(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    async with ScriptedModel([ToolUse("StructuredOutput", {"n": 7}), Text("done")]) as model:
        options = cli_options(
            model.url, tmp_path, tools=[], output_format={"type": "json_schema", "schema": schema}
        )
        messages = await ask(options)
    assert result(messages).structured_output == {"n": 7}


async def test_a_block_of_any_type_and_headers_are_sent_as_they_are(tmp_path: Path) -> None:
    asked = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "advisor", "input": {"about": "\u00fc"}}
    told = {"type": "advisor_tool_result", "tool_use_id": "srvtoolu_1", "content": {"type": "advice"}}
    turn = Turn(Block(asked), Block(told), Text("done"), headers={"request-id": "req_scripted"})
    async with ScriptedModel([turn]) as model:
        messages = await ask(cli_options(model.url, tmp_path))
    blocks = [
        block for message in messages if isinstance(message, AssistantMessage) for block in message.content
    ]
    assert blocks == [
        ServerToolUseBlock(id="srvtoolu_1", name="advisor", input={"about": "\u00fc"}),
        ServerToolResultBlock(tool_use_id="srvtoolu_1", content={"type": "advice"}),
        TextBlock(text="done"),
    ]
