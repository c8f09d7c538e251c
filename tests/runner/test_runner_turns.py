"""The runner drives the real CLI against a scripted model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import claude_agent_sdk
import pytest
from support.processes import is_alive
from support.runner_process import (
    PYTHON,
    RunnerProcess,
    build_zipapp,
    run_runner,
    source_command,
    wait_for_file,
)

from agenthost.testing import ApiError, FakeCLI, Hold, ScriptedModel, Text, ToolUse, Turn

LIMIT = 90
OPTIONS: dict[str, Any] = {"setting_sources": [], "permission_mode": "acceptEdits", "allowed_tools": ["Bash"]}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The runner is a process of its own: who talks to it makes no difference."""
    return "asyncio"


async def finish(runner: RunnerProcess) -> None:
    await runner.send("end")
    end = await runner.rest()
    assert end["error"] is None


@pytest.mark.parametrize("packed", [False, True], ids=["source", "zipapp"])
async def test_a_turn_with_a_tool_comes_out_as_typed_messages_in_order(tmp_path: Path, packed: bool) -> None:
    command = source_command()
    if packed:
        command = [PYTHON, "-I", str(build_zipapp(tmp_path / "runner.pyz"))]
    script = [ToolUse("Bash", {"command": "echo 'it''s ünï' > out.txt; cat out.txt"}), Text("All done.")]
    with anyio.fail_after(LIMIT):
        async with (
            ScriptedModel(script) as model,
            run_runner(tmp_path, command=command, ANTHROPIC_BASE_URL=model.url) as runner,
        ):
            await runner.connect(**OPTIONS, include_partial_messages=True)
            await runner.query("Say \"hi\" \U0001f44b\n'twice'", uuid="first")
            await runner.until("state", state="idle")
            await finish(runner)
        model.assert_played()

    assert runner.states() == ["busy", "ready", "connected", "idle"]
    kinds = [type(m).__name__ for m in runner.messages()]
    assert kinds[0] == "SystemMessage"
    assert kinds[-1] == "ResultMessage"
    assert kinds.count("StreamEvent") > 5
    (result,) = runner.messages("ResultMessage")
    assert (result.result, result.user_message_uuids) == ("All done.", ["first"])
    (call,) = runner.messages("AssistantMessage")[0].content
    assert isinstance(call, claude_agent_sdk.ToolUseBlock)
    (answer,) = runner.messages("UserMessage")[0].content
    assert isinstance(answer, claude_agent_sdk.ToolResultBlock)
    assert "its ünï" in str(answer.content)
    assert model.turns[0].prompt.endswith("Say \"hi\" \U0001f44b\n'twice'")


async def test_prompts_given_at_once_are_answered_in_order_each_once(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            ScriptedModel(lambda request: Text(f"answer to {request.prompt[-3:]}")) as model,
            run_runner(tmp_path, ANTHROPIC_BASE_URL=model.url) as runner,
        ):
            await runner.query("one", uuid="11111111-0000-4000-8000-000000000000")
            await runner.connect(**OPTIONS)
            await runner.until("state", state="idle")
            await runner.query("one", uuid="11111111-0000-4000-8000-000000000000")
            await runner.query("two", uuid="22222222-0000-4000-8000-000000000000")
            await runner.until("state", state="idle")
            message = {"role": "user", "content": [{"type": "text", "text": "six"}]}
            await runner.query(
                [{"type": "user", "message": message, "parent_tool_use_id": None}],
                uuid="33333333-0000-4000-8000-000000000000",
            )
            await runner.until("state", state="idle")
            await finish(runner)

    results = runner.messages("ResultMessage")
    assert [r.result for r in results] == ["answer to one", "answer to two", "answer to six"]
    assert [r.user_message_uuids[0][0] for r in results] == ["1", "2", "3"]


async def test_prompts_given_during_a_turn_are_open_until_their_own_result(tmp_path: Path) -> None:
    go = anyio.Event()
    with anyio.fail_after(LIMIT):
        async with (
            ScriptedModel([Turn(Hold(go), Text("first")), Text("rest"), Text("rest")], strict=False) as model,
            run_runner(tmp_path, ANTHROPIC_BASE_URL=model.url) as runner,
        ):
            await runner.connect(**OPTIONS)
            await runner.query("a", uuid="aaaaaaaa-0000-4000-8000-000000000000")
            await runner.until("message")
            await runner.query("b", uuid="bbbbbbbb-0000-4000-8000-000000000000")
            await runner.query("c", uuid="cccccccc-0000-4000-8000-000000000000")
            await runner.call("get_server_info")
            await runner.until("reply", id=1)  # the prompts before it have been written
            go.set()
            await runner.until("state", state="idle")
            await finish(runner)

    named = [uuid[0] for r in runner.messages("ResultMessage") for uuid in r.user_message_uuids]
    assert named == ["a", "b", "c"]
    assert runner.states().count("busy") == 1


async def test_an_interrupt_is_answered_during_a_turn_and_the_next_turn_works(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            ScriptedModel([Turn(Text("thinking"), Hold(anyio.Event())), Text("Again.")]) as model,
            run_runner(tmp_path, ANTHROPIC_BASE_URL=model.url) as runner,
        ):
            await runner.connect(**OPTIONS, include_partial_messages=True)
            await runner.query("go", uuid="p1")
            await runner.until_message("StreamEvent")
            await runner.call("interrupt", 5)
            assert (await runner.until("reply"))["ok"]
            await runner.until("state", state="idle")
            await runner.query("again", uuid="p2")
            await runner.until("state", state="idle")
            await finish(runner)

    results = runner.messages("ResultMessage")
    assert [r.subtype for r in results] == ["error_during_execution", "success"]
    assert results[0].terminal_reason == "aborted_streaming"


async def test_the_clients_methods_are_called_with_their_parameters(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            ScriptedModel(lambda _: Text("Yes.")) as model,
            run_runner(tmp_path, ANTHROPIC_BASE_URL=model.url) as runner,
        ):
            await runner.connect(**OPTIONS)
            await runner.call("get_server_info", 1)
            await runner.query("one", uuid="p1")
            await runner.until("state", state="idle")
            await runner.call("set_model", 2, model="claude-other-9")
            await runner.until("reply", id=2, ok=True)
            await runner.call("set_permission_mode", 3, mode="plan")
            await runner.until("reply", id=3, ok=True)
            await runner.call("get_mcp_status", 4)
            await runner.until("reply", id=4, ok=True)
            await runner.call("set_permission_mode", 5, mode="nonsense")
            bad_value = await runner.until("reply", id=5)
            await runner.call("set_model", 6, colour="red")
            bad_name = await runner.until("reply", id=6)
            await runner.call("_connect_inner", 7)
            private = await runner.until("reply", id=7)
            await runner.query("two", uuid="p2")
            await runner.until("state", state="idle")
            await finish(runner)

    info = next(event for event in runner.events if event["kind"] == "reply" and event["id"] == 1)
    assert info["result"]["commands"]
    assert model.turns[-1].model == "claude-other-9"  # before it the CLI asks whether this model is there
    assert not bad_value["ok"]
    assert (bad_name["ok"], bad_name["error"]["type"]) == (False, "TypeError")
    assert (private["ok"], private["error"]["type"]) == (False, "UnsupportedError")


@pytest.mark.parametrize("way", ["end", "eof"])
async def test_the_end_during_a_turn_interrupts_it_and_leaves_no_process(tmp_path: Path, way: str) -> None:
    command = "setsid sleep 1000 & echo $! > pid.new; mv pid.new pid; while true; do sleep 0.1; done"
    with anyio.fail_after(LIMIT):
        async with (
            ScriptedModel([ToolUse("Bash", {"command": command})]) as model,
            run_runner(tmp_path, ANTHROPIC_BASE_URL=model.url) as runner,
        ):
            await runner.connect(**OPTIONS)
            await runner.query("go")
            await runner.until_message("AssistantMessage")
            left_behind = int(await wait_for_file(tmp_path / "pid"))
            assert is_alive(left_behind)
            if way == "end":
                await runner.send("end")
            else:
                await runner.close_input()
            end = await runner.rest()

    assert end["error"] is None
    assert runner.messages("ResultMessage")[0].subtype == "error_during_execution"
    assert not is_alive(left_behind)


async def test_results_of_a_cli_that_names_no_prompts_close_them_in_order(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            turns = [[FakeCLI.result(user_message_uuids=None)]] * 3
            await runner.connect(cli_path=FakeCLI(*turns).write(tmp_path / "claude"))
            await runner.query("one", uuid="p1")
            await runner.until("state", state="idle")
            await runner.query("two", uuid="p2")
            await runner.query("three", uuid="p3")
            await runner.until("state", state="idle")
            await finish(runner)

    assert len(runner.messages("ResultMessage")) == 3


async def test_after_the_last_prompt_was_announced_the_cli_ends_by_itself(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            ScriptedModel([Text("One."), Text("Two.")]) as model,
            run_runner(tmp_path, ANTHROPIC_BASE_URL=model.url) as runner,
        ):
            await runner.connect(**OPTIONS)
            await runner.query("one", uuid="p1")
            await runner.query("two", uuid="p2")
            await runner.send("finish")
            end = await runner.rest()

    assert end["error"] is None
    assert [name for r in runner.messages("ResultMessage") for name in r.user_message_uuids] == ["p1", "p2"]


async def test_an_error_result_after_the_last_prompt_is_a_result_error(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            ScriptedModel(lambda _: ApiError(400, "no such thing")) as model,
            run_runner(tmp_path, ANTHROPIC_BASE_URL=model.url) as runner,
        ):
            await runner.connect(**OPTIONS)
            await runner.query("one")
            await runner.send("finish")
            end = await runner.rest()

    (result,) = runner.messages("ResultMessage")
    assert result.is_error
    assert end["error"]["type"] == "ResultError"
    assert "no such thing" in end["error"]["message"]
