"""Errors: of the model, of the CLI, of what was asked for."""

from __future__ import annotations

import json
from typing import Any

from claude_agent_sdk import StreamEvent
from parity.scenario import Run, one_answer, scenario

from agenthost.testing import ApiError, Cut, FakeCLI, Hold, StreamError, Text, ToolUse, Turn

UUID = "00000000-0000-4000-8000-0000000000bb"


@scenario(
    "function:query",
    connects=False,
    script=[ToolUse("Bash", {"command": "echo one"}, id="toolu_1"), Text("Done.")],
    on=("local-unisolated", "local"),
    trio=True,
)
async def one_shot(run: Run) -> None:
    await run.one_shot("Go on.", allowed_tools=["Bash"])


@scenario("function:query", connects=False, script=[Text("One."), Text("Two.")])
async def one_shot_with_a_stream_of_prompts(run: Run) -> None:
    async def prompts() -> Any:
        yield {"type": "user", "message": {"role": "user", "content": "One?"}}
        yield {"type": "user", "message": {"role": "user", "content": "Two?"}}

    await run.one_shot(prompts())


@scenario(
    "error:ResultError error:ProcessError",
    connects=False,
    script=[ApiError(413, "that is too much")],
    shows=('"$class": "ResultError"', '"api_error_status": 413'),
    masks=("fields of a result that the SDK drops", "stderr of a CLI that died"),
)
async def one_shot_that_fails(run: Run) -> None:
    await run.one_shot("Go on.")


@scenario(
    "error:ResultError",
    connects=False,
    script=[ToolUse("Bash", {"command": "echo one"}, id="toolu_1")],
    shows=('"$class": "ResultError"', "error_max_turns"),
    masks=("fields of a result that the SDK drops", "stderr of a CLI that died"),
)
async def one_shot_with_too_many_turns(run: Run) -> None:
    await run.one_shot("Go on.", max_turns=1, allowed_tools=["Bash"])


@scenario(
    "class:AssistantMessage",
    script=[ApiError(403, "bad \u00fc"), Text("Better.")],
    shows=('"api_error_status": 403', "bad \\u00fc"),
)
async def a_session_goes_on_after_an_error_of_the_model(run: Run) -> None:
    await run.ask("One?")
    await run.ask("Two?")


@scenario(
    "class:SystemMessage",
    script=[ApiError(529), ApiError(500), Text("At last.")],
    shows=("api_retry",),
)
async def the_model_is_asked_again(run: Run) -> None:
    await one_answer(run)


@scenario(
    "class:AssistantMessage",
    script=[ApiError(401, "no such key", retry=False)],
    shows=("authentication_failed",),
)
async def a_refused_key(run: Run) -> None:
    await one_answer(run)


def _has_begun(message: Any) -> bool:
    return isinstance(message, StreamEvent) and message.event["type"] == "content_block_delta"


def _broken(run: Run) -> list[Any]:
    # What stands before the cut must have arrived: a client may drop what comes together with the end.
    cut = Turn(Text("half", end=False), Hold(run.event("seen")), Cut())
    return [cut, Turn(Text("half", end=False), StreamError()), Text("whole")]


@scenario(
    "class:SystemMessage class:StreamEvent",
    script=_broken,
    options={"include_partial_messages": True},
    shows=("api_retry",),
)
async def broken_answers_are_asked_for_again(run: Run) -> None:
    await run.client.query("Go on.")
    await run.until(_has_begun)
    run.event("seen").set()
    await run.response()


@scenario("class:AssistantMessage", script=[Turn(Text("cut off"), stop_reason="max_tokens"), Text("and on")])
async def an_answer_that_is_too_long(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:max_buffer_size error:CLIJSONDecodeError",
    script=[Text("x" * 200_000)],
    options={"max_buffer_size": 100_000},
    shows=("CLIJSONDecodeError",),
    masks=("an error is told to all who ask", "stderr of a CLI that died"),
)
async def a_line_longer_than_the_buffer(run: Run) -> None:
    await run.client.query("Go on.")
    await run.all_there_is(run.client)


@scenario(
    "option:cli_path option:cwd option:settings error:CLINotFoundError error:CLIConnectionError",
    connects=False,
    shows=("CLINotFoundError", "CLIConnectionError"),
    masks=("a place that is not there", "stderr of a CLI that died"),
)
async def places_that_are_not_there(run: Run) -> None:
    await run.refused(cli_path=f"{run.work}/no-such-claude")
    await run.refused(cwd=f"{run.work}/no-such-directory")
    await run.refused(settings="no-such-file.json", sandbox={"enabled": False})


# ---- what the real CLI does not do on demand


def _line(**fields: Any) -> dict[str, Any]:
    return FakeCLI.raw(json.dumps({"uuid": UUID, "session_id": UUID, **fields}).encode() + b"\n")


RATE_LIMIT = {
    "status": "allowed_warning",
    "resetsAt": 1_999_999_999,
    "rateLimitType": "five_hour",
    "utilization": 0.93,
    "overageStatus": "rejected",
    "overageResetsAt": 2_000_000_000,
    "overageDisabledReason": "org_level_disabled",
    "more": {"than": ["the SDK", "knows", None]},
}


@scenario(
    "class:RateLimitEvent class:RateLimitInfo option:cli_path",
    connects=False,
    shows=("RateLimitEvent", '"utilization": 0.93'),
)
async def a_rate_limit_is_near(run: Run) -> None:
    cli = FakeCLI([_line(type="rate_limit_event", rate_limit_info=RATE_LIMIT), FakeCLI.text("Careful.")])
    async with run.open(cli_path=await run.program(cli)) as client:
        await run.ask("Go on.", client)


@scenario("class:SystemMessage class:UserMessage", connects=False, shows=("from the future",))
async def messages_that_the_sdk_does_not_know(run: Run) -> None:
    strange = {"$type": "TextBlock", "$$": [1, None, 2.5, True], "big": 2**60, "half": "\ud83d"}
    image = {"role": "assistant", "model": "m", "content": [{"type": "image"}]}
    injected = {"role": "user", "content": "injected"}
    cli = FakeCLI(
        [
            _line(type="system", subtype="from the future", data=strange),
            _line(type="no_such_type", content=1),
            FakeCLI.raw(b"no JSON at all\n\n"),
            _line(type="user", message=injected, origin={"kind": "peer", "body": "x"}),
            _line(type="assistant", message=image),
            FakeCLI.text("Done."),
            FakeCLI.result(
                origin={"kind": "task-notification"}, errors=["one"], permission_denials=[strange]
            ),
        ]
    )
    async with run.open(cli_path=await run.program(cli)) as client:
        await run.ask("Go on.", client)


@scenario(
    "error:ClaudeSDKError",
    connects=False,
    shows=("MessageParseError",),
    masks=("classes that are not the SDK's public ones",),
)
async def a_message_that_the_sdk_cannot_read(run: Run) -> None:
    broken = _line(type="assistant", message={"role": "assistant"})
    cli = FakeCLI([FakeCLI.text("before"), broken, FakeCLI.text("after")])
    async with run.open(cli_path=await run.program(cli)) as client:
        await client.query("Go on.")
        await run.attempt("receive_response", run.response(client))
        await run.response(client)


@scenario(
    "error:CLIJSONDecodeError",
    connects=False,
    shows=("CLIJSONDecodeError",),
    masks=(
        "an error is told to all who ask",
        "classes that are not the SDK's public ones",
        "stderr of a CLI that died",
    ),
)
async def half_a_line(run: Run) -> None:
    cli = FakeCLI([FakeCLI.text("before"), FakeCLI.raw(b'{"type": "assistant", "mess\n')])
    async with run.open(cli_path=await run.program(cli)) as client:
        await client.query("Go on.")
        await run.all_there_is(client)


@scenario(
    "error:ProcessError option:stderr",
    connects=False,
    shows=('"exit_code": 7', '"last words"'),
    masks=("an error is told to all who ask", "stderr of a CLI that died", "why an agent has ended"),
)
async def a_cli_that_dies(run: Run) -> None:
    def take(line: str) -> None:
        run.note("stderr", line)

    cli = FakeCLI([FakeCLI.text("before"), FakeCLI.stderr("last words"), FakeCLI.leave(7)])
    async with run.open(cli_path=await run.program(cli), stderr=take) as client:
        await client.query("Go on.")
        await run.all_there_is(client)
        await run.call("interrupt", client=client)
        await run.call("query", "Still there?", client=client)


@scenario(
    "error:ProcessError",
    connects=False,
    shows=('"exit_code": -9',),
    masks=("stderr of a CLI that died",),
)
async def a_cli_that_is_killed(run: Run) -> None:
    cli = FakeCLI([FakeCLI.text("before"), FakeCLI.leave(-9)])
    await run.one_shot("Go on.", cli_path=await run.program(cli))


@scenario(
    "error:ProcessError",
    connects=False,
    shows=("connect raised",),
    masks=("stderr of a CLI that died",),
)
async def a_cli_that_dies_at_its_start(run: Run) -> None:
    cli = FakeCLI(at_start=[FakeCLI.stderr("no licence"), FakeCLI.leave(3)])
    await run.refused(cli_path=await run.program(cli))


@scenario(
    "method:receive_messages",
    connects=False,
    shows=("end of the messages",),
    masks=("an error is told to all who ask", "no turn ends in silence"),
)
async def a_cli_that_leaves_without_a_result(run: Run) -> None:
    cli = FakeCLI([FakeCLI.text("before"), FakeCLI.leave(0)])
    async with run.open(cli_path=await run.program(cli)) as client:
        await client.query("Go on.")
        await run.all_there_is(client)


@scenario("option:stderr", connects=False, script=[Text("Done.")], shows=('"one that is known": true',))
async def stderr_of_the_cli(run: Run) -> None:
    lines: list[str] = []
    async with run.open(stderr=lines.append, extra_args={"debug-to-stderr": None}) as client:
        await run.ask("Go on.", client)
    run.see(
        {"lines of stderr": len(lines) > 3, "one that is known": any("[DEBUG]" in line for line in lines)}
    )


@scenario(
    "option:user",
    connects=False,
    shows=("no-such-user",),
    masks=("stderr of a CLI that died",),
)
async def a_user_that_is_not_there(run: Run) -> None:
    await run.refused(user="no-such-user")


@scenario("option:user", connects=False, script=[Text("Done.")], played=False)
async def the_cli_runs_as_a_user(run: Run) -> None:
    # Another user than this one can be had by root alone, and could not read the sandbox's files.
    await run.one_shot("Go on.", user="root")


@scenario(
    "option:resume option:session_id option:skills option:plugins option:permission_mode",
    connects=False,
    shows=("ProcessError", "ValueError", "TypeError"),
    masks=("stderr of a CLI that died",),
)
async def options_that_make_no_sense(run: Run) -> None:
    await run.refused(resume=UUID, session_id=UUID)
    await run.refused(skills=["a,b"])
    await run.refused(skills="rhyme")
    await run.refused(plugins=[{"type": "remote", "path": run.work}])
    await run.refused(permission_mode="no such mode")
