"""``agenthost attach``: a person takes over an agent, and leaves it again."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from claude_agent_sdk import HookMatcher
from cli.detached import PLAIN, detached, end, happened, is_there, never
from support.command_line import COMMAND, Done, environment, run_agenthost, run_command
from support.preloaded import Program

from agenthost import AgentRef, HostedAgent, SandboxSpec, open_provider
from agenthost.adapter.provider import GuestProvider
from agenthost.testing import FakeCLI

LIMIT = 120
KEY = {"ANTHROPIC_API_KEY": "sk-ant-of-the-tests", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
ASK = FakeCLI.tool("Bash", {"command": "ls"}, ask=True, result="a.py")

pytestmark = pytest.mark.usefixtures("host_key")


class Attached:
    """A running ``agenthost attach``."""

    def __init__(self, process: Program) -> None:
        self.process = process
        self.printed = ""
        self.before = ""  # all that was waited for

    async def until(self, text: str) -> None:
        """Wait until it has printed a text behind what was waited for before."""
        while text not in self.printed:
            self.printed += (await self.process.stdout.receive()).decode()
        head, _, self.printed = self.printed.partition(text)
        self.before += head + text

    async def type(self, text: str) -> None:
        """Write to its stdin."""
        assert self.process.stdin is not None
        await self.process.stdin.send(text.encode())

    async def end(self) -> Done:
        """Return how it ends, and what it printed behind what was waited for."""
        self.printed += b"".join([chunk async for chunk in self.process.stdout]).decode()
        errors = b"".join([chunk async for chunk in self.process.stderr]).decode()
        return Done(await self.process.wait(), self.printed, errors)


@asynccontextmanager
async def attached(ref: AgentRef, *arguments: str, stdin: int | None = None) -> AsyncGenerator[Attached]:
    """Run ``attach`` with a pipe as stdin, or with what is given."""
    stdin = subprocess.PIPE if stdin is None else stdin
    async with run_command("attach", ref.agent, *arguments, env=environment(KEY), stdin=stdin) as process:
        yield Attached(process)


async def test_lines_are_prompts_and_their_end_leaves_the_agent_running(tmp_path: Path) -> None:
    turns = [FakeCLI.text("One.")], [FakeCLI.text("Two.")], [FakeCLI.text("Three.")]
    with anyio.fail_after(LIMIT):
        async with detached(tmp_path, *turns) as ref:
            await happened(ref, "One.", kind="message")
            async with attached(ref) as agent:
                await agent.until("claude   One.\n")
                await agent.type("and then?\n\n")
                await agent.until("you      and then?\nclaude   Two.\n")
                await agent.until("done     ")
                assert agent.process.stdin is not None
                await agent.process.stdin.aclose()
                done = await agent.end()
            assert (done.exit_code, done.stderr) == (0, "")
            assert f"{ref.agent} runs on in sandbox {ref.sandbox_name}" in done.stdout
            assert f"agenthost stop {ref.agent}\n" in done.stdout
            # The line that it prints brings somebody back to where this one left.
            line = next(line for line in done.stdout.splitlines() if "come back: " in line)
            words = line.partition("come back: agenthost ")[2].split()
            async with HostedAgent.attach(ref, after=words[-1]) as again:
                await again.query("once more")
                async for message in again.receive_response():
                    assert "Two." not in repr(message)


async def test_it_begins_with_the_newest_turn_or_where_it_is_told_to(tmp_path: Path) -> None:
    turns = [FakeCLI.text("One.")], [FakeCLI.text("Two.")], [FakeCLI.text("Three."), FakeCLI.stall()]
    with anyio.fail_after(LIMIT):
        async with detached(tmp_path, *turns, prompts=3) as ref:
            await happened(ref, "Three.")
            for after, told in (((), []), (("--after", "oldest"), ["One.", "Two."])):
                async with attached(ref, *after) as agent:
                    await agent.until("Three.\n")
                    assert [text for text in ("One.", "Two.") if text in agent.before] == told
                    agent.process.send_signal(signal.SIGTERM)
                    assert (await agent.end()).exit_code == 143
            assert await is_there(ref)


async def test_a_ref_goes_on_at_its_cursor(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with detached(tmp_path, [FakeCLI.text("One.")], [FakeCLI.text("Two.")]) as ref:
            async with HostedAgent.attach(ref) as agent:
                async for _ in agent.receive_response():
                    pass
                await agent.query("2")
                ref = await agent.detach()
            await happened(ref, "Two.")
            done = await run_agenthost("attach", ref.to_json(), "--finish", env=KEY)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("claude   Two.\n")


@pytest.mark.parametrize(
    ("typed", "result"), [("y\n", "result   a.py"), ("maybe\nno\n", "failed   the user said no")]
)
async def test_a_person_is_asked_whether_a_tool_may_be_used(tmp_path: Path, typed: str, result: str) -> None:
    person, terminal = pty.openpty()
    try:
        with anyio.fail_after(LIMIT):
            async with (
                detached(tmp_path, [ASK], can_use_tool=never) as ref,
                attached(ref, stdin=terminal) as agent,
            ):
                await agent.until('asks     Bash {"command": "ls"}\n         allow it? y or n\n')
                os.write(person, typed.encode())
                await agent.until(result)
                await agent.until("done ")
                os.write(person, b"\x04")  # Ctrl-D
                assert (await agent.end()).exit_code == 0
                assert await is_there(ref)
    finally:
        os.close(person)
        os.close(terminal)


async def test_each_line_answers_one_question(tmp_path: Path) -> None:
    first = FakeCLI.tool("Bash", {"command": "first"}, ask=True, result="made")
    second = FakeCLI.tool("Bash", {"command": "second"}, ask=True, result="made")
    person, terminal = pty.openpty()
    try:
        with anyio.fail_after(LIMIT):
            async with (
                detached(tmp_path, [FakeCLI.tools(first, second)], can_use_tool=never) as ref,
                attached(ref, stdin=terminal) as agent,
            ):
                await agent.until("allow it? y or n\n")
                os.write(person, b"n\ny\n")  # typed ahead
                await agent.until('asks     Bash {"command": "second"}')
                await agent.until("failed   the user said no\n")
                await agent.until("result   made\n")
                agent.process.send_signal(signal.SIGTERM)
                assert (await agent.end()).exit_code == 143
    finally:
        os.close(person)
        os.close(terminal)


async def test_where_nobody_can_answer_a_question_stays_open(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with detached(tmp_path, [ASK], can_use_tool=never) as ref:
            async with attached(ref) as agent:
                await agent.until("nobody can answer that here")
                agent.process.send_signal(signal.SIGTERM)
                assert (await agent.end()).exit_code == 143
            # A script that wants it finished is told that it cannot be; unless it has an answer.
            done = await run_agenthost("attach", ref.agent, "--finish", env=KEY)
            assert done.exit_code == 1
            assert "nobody can answer that here" in done.stderr
            assert await is_there(ref)
            done = await run_agenthost("attach", ref.agent, "--finish", "--answer", "allow", env=KEY)
            assert done.exit_code == 0, done.stderr
            assert "result   a.py\n" in done.stdout
            assert not await is_there(ref)


async def test_ctrl_c_interrupts_the_turn_and_then_leaves(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            detached(tmp_path, [FakeCLI.text("Hm."), FakeCLI.stall()]) as ref,
            attached(ref) as agent,
        ):
            await agent.until("Hm.\n")
            agent.process.send_signal(signal.SIGINT)
            await agent.until("interrupting the turn")
            await agent.until("1 turn, ")  # its result
            agent.process.send_signal(signal.SIGINT)
            done = await agent.end()
            assert (done.exit_code, done.stderr) == (130, "")
            assert "runs on" in done.stdout
            await happened(ref, state="idle")
            assert await is_there(ref)


async def test_ctrl_c_twice_leaves_a_turn_that_cannot_be_interrupted(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            detached(tmp_path, [FakeCLI.text("Hm."), FakeCLI.stall(deaf=True)]) as ref,
            attached(ref) as agent,
        ):
            await agent.until("Hm.\n")
            agent.process.send_signal(signal.SIGINT)
            await agent.until("interrupting the turn")
            agent.process.send_signal(signal.SIGINT)
            assert (await agent.end()).exit_code == 130
            assert await is_there(ref)


async def test_whoever_comes_later_supersedes_it(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            detached(tmp_path, [FakeCLI.text("Hm."), FakeCLI.stall()]) as ref,
            attached(ref) as agent,
        ):
            await agent.until("Hm.\n")
            async with HostedAgent.attach(ref) as other:
                done = await agent.end()
                assert done.exit_code == 1
                assert (
                    done.stderr
                    == f"agenthost: another process drives {ref.agent} now; this one has left it\n"
                )
                await other.detach()
            assert await is_there(ref)


async def test_without_a_key_it_says_what_to_set_and_takes_nothing(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with detached(tmp_path) as ref, HostedAgent.attach(ref) as driver:
            done = await run_agenthost("attach", ref.agent)
            assert done.exit_code == 2
            assert "ANTHROPIC_API_KEY" in done.stderr
            assert (await driver.get_server_info()) is not None  # it was not superseded
            await driver.detach()


async def test_it_needs_no_key_where_that_is_in_the_sandbox(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with detached(tmp_path, [FakeCLI.text("One.")], credentials="env") as ref:
            done = await run_agenthost("attach", ref.agent, "--finish")
    assert done.exit_code == 0, done.stderr


async def test_a_terminal_that_goes_away_leaves_the_agent_running(tmp_path: Path) -> None:
    person, terminal = pty.openpty()
    with anyio.fail_after(LIMIT):
        async with detached(tmp_path, [FakeCLI.text("Hm."), FakeCLI.stall()]) as ref:
            async with attached(ref, stdin=terminal) as agent:
                os.close(terminal)
                await agent.until("Hm.\n")
                os.close(person)
                assert (await agent.end()).exit_code == 0
            assert await is_there(ref)


async def test_a_sandbox_that_ends_under_it_is_told(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            detached(tmp_path, [FakeCLI.text("Hm."), FakeCLI.stall()]) as ref,
            attached(ref) as agent,
        ):
            await agent.until("Hm.\n")
            await end(ref)
            done = await agent.end()
    assert done.exit_code == 1
    assert "has ended" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "runs on" not in done.stdout


@pytest.mark.full
async def test_a_reader_that_goes_away_leaves_the_agent_running(tmp_path: Path) -> None:
    turn = [FakeCLI.text("One."), FakeCLI.wait(2), *[FakeCLI.text("x" * 1000)] * 200, FakeCLI.stall()]
    with anyio.fail_after(LIMIT):
        async with detached(tmp_path, turn) as ref:
            command = f"{COMMAND} attach {ref.agent} | head -n 1; exit ${{PIPESTATUS[0]}}"
            async with await anyio.open_process(["bash", "-c", command], env=environment(KEY)) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                assert await process.stdout.receive() == b"claude   One.\n"
                assert await process.wait() == 1
                assert b"".join([chunk async for chunk in process.stderr]).decode() == ""
            assert await is_there(ref)


async def test_what_it_cannot_answer_is_told_and_left_to_others(tmp_path: Path) -> None:
    async def hook(*_: object) -> Any:
        await anyio.sleep_forever()

    hooks = {"PreToolUse": [HookMatcher(hooks=[hook])]}
    with anyio.fail_after(LIMIT):
        async with detached(tmp_path, [ASK], hooks=hooks) as ref, attached(ref) as agent:
            await agent.until("asks for hooks['PreToolUse'], which this process does not have: it waits")
            agent.process.send_signal(signal.SIGTERM)
            assert (await agent.end()).exit_code == 143
            assert await is_there(ref)


async def test_an_agent_that_has_just_been_started_is_not_taken() -> None:
    async with open_provider(PLAIN) as provider:
        assert isinstance(provider, GuestProvider)
        sandbox = await provider.create(SandboxSpec(), agent_id="agent-waits")
        try:
            done = await run_agenthost("attach", "agent-waits", env=KEY)
        finally:
            await sandbox.terminate()
    assert done.exit_code == 1
    assert "has not been given its options" in done.stderr


async def test_an_agent_that_ends_is_left_with_its_sandbox(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with detached(tmp_path, [FakeCLI.text("Hm."), FakeCLI.leave(3)]) as ref, attached(ref) as agent:
            done = await agent.end()
            assert done.exit_code == 1
            assert "ProcessError" in done.stderr
            assert f"the agent has ended; its sandbox {ref.sandbox_name}" in done.stdout
            assert await is_there(ref)


async def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    done = await run_agenthost("attach", "x", "--download", str(tmp_path), env=KEY)
    assert done.exit_code == 2
    assert "needs --finish" in done.stderr
