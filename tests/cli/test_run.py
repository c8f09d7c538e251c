"""``agenthost run``: one prompt to the real CLI in a real sandbox, with a scripted model on the host."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import anyio
import claude_agent_sdk as sdk
import pytest
from cli.scripted_runs import KEY, sandboxes
from support.command_line import environment, run_agenthost, run_command
from support.hosting import model_environment

from agenthost.testing import ApiError, ModelRequest, ScriptedModel, Stall, Text, ToolUse
from agenthost.wire.codec import Codec, public_classes

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


async def test_a_person_reads_what_the_agent_says_and_does() -> None:
    script = [[Text("I look."), ToolUse("Bash", {"command": "echo it is $((40 + 2))"})], Text("Done: 42.")]
    async with ScriptedModel(script, api_key=KEY) as model:
        done = await run_agenthost("run", "What is it?", env=model_environment(model, KEY))
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    for expected in (
        "you      What is it?",
        "claude   I look.",
        "tool     Bash echo it is $((40 + 2))",
        "result   it is 42",
        "claude   Done: 42.",
    ):
        assert expected in lines
    assert any(line.startswith("done     2 turns, ") for line in lines)
    assert KEY not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert sandboxes() == []


async def test_json_is_one_sdk_message_a_line_and_nothing_else() -> None:
    async with ScriptedModel([Text("one\ntwo \N{WAVING HAND SIGN}")], api_key=KEY) as model:
        done = await run_agenthost("run", "hi", "--json", env=model_environment(model, KEY))
    assert done.exit_code == 0, done.stderr
    codec = Codec(public_classes(sdk))
    messages = [codec.loads(line) for line in done.stdout.splitlines()]
    assert isinstance(messages[-1], sdk.ResultMessage)
    assert messages[-1].result == "one\ntwo \N{WAVING HAND SIGN}"
    assert any(isinstance(message, sdk.AssistantMessage) for message in messages)


async def test_a_directory_goes_in_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "app" / "sub dir").mkdir(parents=True)
    (tmp_path / "app" / "sub dir" / "it's \N{WAVING HAND SIGN}.txt").write_text("before\n")
    command = "cat sub*/it* && echo after > sub*/it*.txt && echo new > new.txt"
    async with ScriptedModel([ToolUse("Bash", {"command": command}), Text("ok")], api_key=KEY) as model:
        done = await run_agenthost(
            *("run", "go", "--workspace", "app", "--download", "out"),
            env=model_environment(model, KEY),
            cwd=tmp_path,
        )
    assert done.exit_code == 0, done.stderr
    assert model.turns[1].tool_results[0].text == "before"
    assert (tmp_path / "out" / "sub dir" / "it's \N{WAVING HAND SIGN}.txt").read_text() == "after\n"
    assert (tmp_path / "out" / "new.txt").read_text() == "new\n"
    assert (tmp_path / "app" / "sub dir" / "it's \N{WAVING HAND SIGN}.txt").read_text() == "before\n"


@pytest.mark.full
async def test_a_prompt_may_come_from_stdin_with_anything_in_it() -> None:
    prompt = "say \"hi\" & 'bye' $HOME `x`\n\n\N{WAVING HAND SIGN} \\ %s {}\n"
    async with ScriptedModel(lambda request: Text(request.prompt), api_key=KEY) as model:
        done = await run_agenthost(
            "run", "-", "--json", env=model_environment(model, KEY), stdin=prompt.encode()
        )
    assert done.exit_code == 0, done.stderr
    assert model.turns[0].prompt == prompt.strip()


async def test_options_reach_the_agent() -> None:
    script = [ToolUse("Bash", {"command": "true"}), ToolUse("Bash", {"command": "true"})]
    async with ScriptedModel(script, api_key=KEY) as model:
        done = await run_agenthost(
            *("run", "go", "--model", "claude-some-model", "--max-turns", "1"),
            env=model_environment(model, KEY),
        )
    assert done.exit_code == 1
    assert model.turns[0].model == "claude-some-model"
    assert len(model.turns) == 1
    assert "failed" in done.stdout


async def test_an_error_of_the_model_is_told_and_exits_with_1() -> None:
    async with ScriptedModel([ApiError(403, "no such luck", retry=False)], api_key=KEY) as model:
        done = await run_agenthost("run", "go", env=model_environment(model, KEY))
    assert done.exit_code == 1
    assert "no such luck" in done.stdout
    assert "Traceback" not in done.stderr


def complaint(stderr: str) -> str:
    """Return what the command says at its end, which is one line and no traceback."""
    assert "Traceback" not in stderr
    lines = [line for line in stderr.splitlines() if line.startswith("agenthost: ")]
    assert len(lines) == 1, stderr
    assert stderr.endswith(f"{lines[0]}\n")
    return lines[0]


async def test_a_cli_that_dies_in_the_middle_of_a_turn_is_told_in_one_line_and_exits_with_1() -> None:
    # It is the first process of its kind in there; its shells are others.
    script = [ToolUse("Bash", {"command": "kill -KILL $PPID"}), Text("I should be dead.")]
    async with ScriptedModel(script, api_key=KEY, strict=False) as model:
        done = await run_agenthost("run", "go", env=model_environment(model, KEY))
    assert done.exit_code == 1, done.stderr
    said = complaint(done.stderr)
    assert "ProcessError" in said
    assert "agenthost doctor" in said
    assert sandboxes() == []


async def test_a_download_that_cannot_be_written_is_told_in_one_line_and_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way\n")
    async with ScriptedModel([Text("Done.")], api_key=KEY) as model:
        done = await run_agenthost(
            "run", "go", "--download", "file/out", env=model_environment(model, KEY), cwd=tmp_path
        )
    assert done.exit_code == 1, done.stderr
    said = complaint(done.stderr)
    assert "'file/out'" in said
    assert "--download" in said
    assert "claude   Done." in done.stdout.splitlines()
    assert sandboxes() == []


async def test_without_a_key_it_says_what_to_set_and_makes_nothing() -> None:
    done = await run_agenthost("run", "go")
    assert done.exit_code == 2
    assert "ANTHROPIC_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr
    assert sandboxes() == []


async def test_without_bubblewrap_it_says_how_to_get_it(tmp_path: Path) -> None:
    done = await run_agenthost("run", "go", env={"PATH": str(tmp_path), "ANTHROPIC_API_KEY": KEY})
    assert done.exit_code == 1
    assert "bubblewrap" in done.stderr
    assert "install" in done.stderr
    assert sandboxes() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_in_the_middle_of_a_turn_leaves_nothing(number: signal.Signals, code: int) -> None:
    asked = anyio.Event()

    def step(_request: ModelRequest) -> Stall:
        asked.set()
        return Stall()

    async with (
        ScriptedModel([step], api_key=KEY) as model,
        run_command("run", "go", env=environment(model_environment(model, KEY))) as process,
    ):
        await asked.wait()
        assert len(sandboxes()) == 1
        process.send_signal(number)
        errors = b"".join([chunk async for chunk in process.stderr])
        assert await process.wait() == code
    assert sandboxes() == []
    assert b"Traceback" not in errors


async def test_without_isolation_commands_that_need_a_permission_are_refused_and_it_says_so() -> None:
    script = [ToolUse("Bash", {"command": "python3 -c 'print(1)'"}), Text("I may not.")]
    async with ScriptedModel(script, api_key=KEY) as model:
        done = await run_agenthost(
            "run", "go", "--provider", "local-unisolated", env=model_environment(model, KEY)
        )
    assert done.exit_code == 0, done.stderr
    assert "nothing is isolated here" in done.stdout
    assert model.turns[1].tool_results[0].is_error
