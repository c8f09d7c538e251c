"""Methods of the client that steer a session, and what comes of them."""

from __future__ import annotations

from typing import Any

from claude_agent_sdk import StreamEvent, UserMessage
from parity.scenario import Run, is_result, scenario
from support.waiting import until

from agenthost.testing import Hold, Text, ToolUse, Turn

PARTIAL = {"include_partial_messages": True}


@scenario(
    "method:get_server_info method:get_context_usage method:get_mcp_status",
    script=[
        [Text("A text of some length."), ToolUse("Bash", {"command": "echo one"}, id="toolu_1")],
        Text("Done."),
    ],
    options={"allowed_tools": ["Bash"]},
    shows=("get_context_usage returned", '"commands"', '"totalTokens"'),
)
async def what_a_session_tells_of_itself(run: Run) -> None:
    await run.call("get_server_info")
    await run.call("get_context_usage")
    await run.ask("Go on.")
    await run.call("get_context_usage")
    await run.call("get_mcp_status")


@scenario(
    "method:set_model",
    # The CLI tries a model that it has not used yet.
    script=[Text("One."), Text("It is there."), Text("Two."), Text("Three.")],
    shows=('"model": "claude-sonnet-4-6"', '"model": "claude-opus-5-5"'),
)
async def the_model_is_changed(run: Run) -> None:
    await run.ask("One?")
    await run.call("set_model", "claude-sonnet-4-6")
    await run.ask("Two?")
    await run.call("set_model")
    await run.ask("Three?")


@scenario(
    "method:set_permission_mode",
    script=[
        ToolUse("Bash", {"command": "touch one"}, id="toolu_1"),
        Text("No."),
        ToolUse("Bash", {"command": "touch two"}, id="toolu_2"),
        Text("Yes."),
    ],
    shows=("permission_denied", "set_permission_mode raised"),
    masks=("a refusal of the CLI",),
)
async def the_permission_mode_is_changed(run: Run) -> None:
    await run.ask("One?")
    await run.call("set_permission_mode", "acceptEdits")
    await run.ask("Two?")
    await run.call("set_permission_mode", "no such mode")
    await run.see_file("one")
    await run.see_file("two")


def _held(run: Run) -> list[Any]:
    return [Turn(Text("I begin", end=False), Hold(run.event("never")), Text(" and end")), Text("Again.")]


@scenario(
    "method:interrupt option:include_partial_messages class:StreamEvent",
    script=_held,
    options=PARTIAL,
    shows=("aborted_streaming", "[Request interrupted by user]"),
    on=("local-unisolated", "local"),
    trio=True,
)
async def an_interrupt_in_the_middle_of_an_answer(run: Run) -> None:
    await run.client.query("Go.")

    def has_begun(message: Any) -> bool:
        return isinstance(message, StreamEvent) and message.event["type"] == "content_block_delta"

    await run.until(has_begun)
    await run.call("interrupt")
    await run.response()
    await run.ask("And now?")


@scenario(
    "method:interrupt",
    script=[ToolUse("Bash", {"command": "echo begun > begun; sleep 60"}, id="toolu_1"), Text("Again.")],
    options={"allowed_tools": ["Bash"], "extra_args": {"replay-user-messages": None}},
    shows=("error_during_execution", "doesn't want to proceed"),
)
async def an_interrupt_while_a_tool_runs(run: Run) -> None:
    await run.client.query("Go.")
    await until(lambda: run.machine.read(f"{run.work}/begun"), lambda found: found is not None)
    await run.call("interrupt")
    await run.response()
    await run.ask("And now?")


@scenario("method:interrupt", script=[Text("Done.")], shows=("interrupt returned",))
async def an_interrupt_of_nothing(run: Run) -> None:
    await run.call("interrupt")
    await run.ask("Go on.")
    await run.call("interrupt")


@scenario(
    "method:receive_messages",
    script=lambda run: [Turn(Text("First"), Hold(run.event("both sent"))), Text("Second"), Text("Third")],
    options=PARTIAL,
)
async def prompts_that_wait_for_their_turn(run: Run) -> None:
    one, two = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2))

    async def prompt(text: str, uuid: str) -> Any:
        yield {"type": "user", "message": {"role": "user", "content": text}, "uuid": uuid}

    await run.client.query(prompt("One", one))
    await run.until(lambda message: isinstance(message, StreamEvent))
    await run.client.query(prompt("Two", two))
    run.event("both sent").set()
    await run.until(is_result)
    await run.until(is_result)
    await run.ask("Three")


@scenario(
    "method:connect method:disconnect error:CLIConnectionError error:ClaudeSDKError",
    connects=False,
    script=[Text("Done.")],
    shows=("CLIConnectionError",),
)
async def calls_before_and_after_a_connection(run: Run) -> None:
    client = run.machine.make({})
    for method in ("interrupt", "get_mcp_status", "get_context_usage", "get_server_info", "set_model"):
        await run.call(method, client=client)
    await run.call("query", "Go on.", client=client)
    await run.call("disconnect", client=client)
    await run.call("connect", "Asked with the connection.", client=client)
    await run.response(client)
    await run.call("disconnect", client=client)
    await run.call("disconnect", client=client)
    await run.call("interrupt", client=client)


@scenario("method:connect", connects=False, script=[Text("One."), Text("Two.")])
async def prompts_given_as_a_stream_with_the_connection(run: Run) -> None:
    async def prompts() -> Any:
        yield {"type": "user", "message": {"role": "user", "content": "One"}}
        await run.event("answered").wait()
        yield {"type": "user", "message": {"role": "user", "content": "Two"}}

    client = run.machine.make({})
    await client.connect(prompts())
    await run.response(client)
    run.event("answered").set()
    await run.response(client)
    # The stream has ended: so does the session.
    await run.until(lambda _: False, client)
    await run.call("disconnect", client=client)


def write_and_edit(path: str) -> list[ToolUse | Text]:
    """Return turns of the model that write a file and change it."""
    return [
        ToolUse("Write", {"file_path": path, "content": "one\n"}, id="toolu_1"),
        Text("Written."),
        ToolUse("Edit", {"file_path": path, "old_string": "one", "new_string": "two"}, id="toolu_2"),
        Text("Changed."),
    ]


@scenario(
    "method:rewind_files option:enable_file_checkpointing",
    script=lambda run: [
        *write_and_edit(f"{run.work}/a.txt"),
    ],
    options={
        "enable_file_checkpointing": True,
        "permission_mode": "acceptEdits",
        "extra_args": {"replay-user-messages": None},
    },
    shows=("rewind_files returned", "rewind_files raised"),
    masks=("a refusal of the CLI",),
)
async def files_are_rewound(run: Run) -> None:
    await run.ask("Write.")
    second = await run.ask("Change.")
    prompt = next(m for m in second if isinstance(m, UserMessage) and m.content == "Change.")
    await run.see_file("a.txt")
    await run.call("rewind_files", prompt.uuid)
    await run.see_file("a.txt")
    await run.call("rewind_files", "00000000-0000-4000-8000-000000000009")


@scenario(
    "method:rewind_files",
    script=[Text("Done.")],
    shows=("rewind_files raised",),
    masks=("a refusal of the CLI",),
)
async def files_are_not_rewound_without_checkpoints(run: Run) -> None:
    await run.ask("Go on.")
    await run.call("rewind_files", "00000000-0000-4000-8000-000000000009")
    await run.call("stop_task", "no-such-task")


@scenario(
    "class:ConversationResetMessage",
    script=[Text("One."), Text("Two.")],
    shows=("ConversationResetMessage",),
    trio=True,
)
async def the_conversation_is_cleared(run: Run) -> None:
    await run.ask("One?")
    await run.ask("/clear")
    await run.ask("Two?")


@scenario(
    "hook:PreCompact class:SystemMessage",
    script=[Text("One."), Text("<summary>What was said.</summary>"), Text("Two.")],
    shows=("compact_boundary",),
)
async def the_conversation_is_compacted(run: Run) -> None:
    await run.ask("One?")
    await run.ask("/compact")
    await run.ask("Two?")
