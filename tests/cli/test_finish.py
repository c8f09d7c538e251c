"""``agenthost attach --finish``: a script brings an agent to its end that another program had left."""

from __future__ import annotations

import os
import pty
import signal
from pathlib import Path

import anyio
import pytest
from claude_agent_sdk import HookMatcher
from cli.detached import PLAIN, detached, happened, is_there, never
from support.command_line import Done, environment, run_agenthost, run_command

from agenthost import AgentRef, HostedAgent, SandboxSpec, message_from_json, open_provider
from agenthost.link.client import GuestSandbox
from agenthost.testing import FakeCLI

LIMIT = 120
KEY = {"ANTHROPIC_API_KEY": "sk-ant-of-the-tests", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
DECISION = FakeCLI.tool("Bash", {"command": "ls"}, ask=True)

pytestmark = pytest.mark.usefixtures("host_key")


async def finish(ref: AgentRef, *arguments: str, cwd: Path | None = None) -> Done:
    with anyio.fail_after(LIMIT):
        done = await run_agenthost("attach", ref.agent, "--finish", *arguments, env=KEY, cwd=cwd)
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(("error", "code"), [(False, 0), (True, 1)])
async def test_the_result_of_the_turn_that_runs_is_the_exit_code(
    tmp_path: Path, error: bool, code: int
) -> None:
    turn = [FakeCLI.wait(2), FakeCLI.text("One."), FakeCLI.result(is_error=error)]
    async with detached(tmp_path, turn) as ref:
        done = await finish(ref)
        assert done.exit_code == code, done.stderr
        assert "claude   One.\n" in done.stdout
        assert f"{ref.agent} has ended, and sandbox {ref.sandbox_name}" in done.stdout
        assert not await is_there(ref)


async def test_all_prompts_that_were_sent_get_their_results_first(tmp_path: Path) -> None:
    turns = [FakeCLI.text("One."), FakeCLI.wait(1)], [FakeCLI.text("Two.")], [FakeCLI.text("Three.")]
    async with detached(tmp_path, *turns, prompts=3) as ref:
        done = await finish(ref, "--json")
        assert done.exit_code == 0, done.stderr
        messages = [message_from_json(line) for line in done.stdout.splitlines()]
        assert [type(message).__name__ for message in messages].count("ResultMessage") >= 1
        assert "Three." in repr(messages)
        assert not await is_there(ref)


async def test_a_turn_that_is_over_counts_by_the_result_it_had(tmp_path: Path) -> None:
    async with detached(tmp_path, [FakeCLI.result(is_error=True)]) as ref:
        await happened(ref, state="idle")
        assert (await finish(ref)).exit_code == 1
        assert not await is_there(ref)
    # Also when nothing is left to be read.
    async with detached(tmp_path, [FakeCLI.text("One.")]) as ref:
        async with HostedAgent.attach(ref) as agent:
            async for _ in agent.receive_response():
                pass
            ref = await agent.detach()
        done = await finish(ref, "--after", str(ref.cursor))
        assert done.exit_code == 0
        assert "One." not in done.stdout
        assert not await is_there(ref)


async def test_one_that_was_never_asked_anything_ends_too(tmp_path: Path) -> None:
    async with detached(tmp_path, prompts=0) as ref:
        done = await finish(ref)
        assert (done.exit_code, "never asked" in done.stdout) == (1, True)
        assert not await is_there(ref)


async def test_what_it_made_is_brought_out_or_nothing_is_ended(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with detached(tmp_path, [FakeCLI.text("One.")]) as ref:
        async with open_provider(PLAIN) as provider:
            await (await provider.get(ref.sandbox)).write_file("made.txt", b"made\n")
        failed = await finish(ref, "--download", "file/out", cwd=tmp_path)
        assert failed.exit_code == 1
        assert "Nothing was ended" in failed.stderr
        assert await is_there(ref)
        done = await finish(ref, "--download", "out", cwd=tmp_path)
        assert done.exit_code == 0, done.stderr
        assert (tmp_path / "out" / "made.txt").read_text() == "made\n"
        assert not await is_there(ref)


async def test_a_sandbox_with_other_agents_stays(tmp_path: Path) -> None:
    async with open_provider(PLAIN) as provider:
        shared = await provider.create(SandboxSpec())
        assert isinstance(shared, GuestSandbox)
        try:
            async with (
                detached(tmp_path, [FakeCLI.text("One.")], sandbox=shared) as first,
                detached(tmp_path, sandbox=shared) as second,
            ):
                done = await finish(first)
                assert done.exit_code == 0, done.stderr
                assert "1 more live in sandbox" in done.stdout
                assert [one.agent for one in await shared.agents()] == [second.agent]
        finally:
            await shared.terminate()


async def test_one_that_died_is_told_and_taken_away(tmp_path: Path) -> None:
    async with detached(tmp_path, [FakeCLI.text("Hm."), FakeCLI.leave(3)]) as ref:
        await happened(ref, kind="end")
        done = await finish(ref)
        assert done.exit_code == 1
        assert "ProcessError" in done.stderr
        assert "claude   Hm.\n" in done.stdout
        assert not await is_there(ref)


async def test_what_needs_a_function_of_its_program_is_left_to_it(tmp_path: Path) -> None:
    hooks = {"PreToolUse": [HookMatcher(hooks=[never])]}
    async with detached(tmp_path, [DECISION], hooks=hooks) as ref:
        await happened(ref, kind="request")
        done = await finish(ref)
        assert done.exit_code == 1
        assert "asks for a hook of the program that had started it" in done.stderr
        assert f"{ref.agent} runs on" in done.stdout
        assert await is_there(ref)


async def test_a_person_who_goes_away_leaves_a_question_open(tmp_path: Path) -> None:
    person, terminal = pty.openpty()
    try:
        with anyio.fail_after(LIMIT):
            async with (
                detached(tmp_path, [DECISION], can_use_tool=never) as ref,
                run_command("attach", ref.agent, "--finish", env=environment(KEY), stdin=terminal) as process,
            ):
                seen = b""
                while b"allow it?" not in seen:
                    seen += await process.stdout.receive()
                os.write(person, b"\x04")  # Ctrl-D
                assert await process.wait() == 1
                assert await is_there(ref)
    finally:
        os.close(person)
        os.close(terminal)


async def test_ctrl_c_leaves_at_once_and_ends_nothing(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            detached(tmp_path, [FakeCLI.text("Hm."), FakeCLI.stall()]) as ref,
            run_command("attach", ref.agent, "--finish", env=environment(KEY)) as process,
        ):
            seen = b""
            while b"Hm.\n" not in seen:
                seen += await process.stdout.receive()
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
            assert await is_there(ref)
