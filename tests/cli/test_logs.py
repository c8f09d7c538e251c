"""``agenthost logs``: an agent's transcript, read by somebody who changes nothing."""

from __future__ import annotations

import signal
from pathlib import Path

import anyio
import claude_agent_sdk as sdk
import pytest
from claude_agent_sdk import ClaudeAgentOptions
from cli.detached import PLAIN, detached, end, happened, never
from support.command_line import Done, environment, run_agenthost, run_command
from support.preloaded import Program

from agenthost import HostedAgent, message_from_json
from agenthost.testing import FakeCLI

LIMIT = 120
TURN = [
    FakeCLI.text("I look."),
    FakeCLI.tool("Bash", {"command": "ls"}, result="a.py"),
    FakeCLI.text("Done."),
]
SAID = ["claude   I look.", "tool     Bash ls", "result   a.py", "claude   Done."]

pytestmark = pytest.mark.usefixtures("host_key")


async def until_printed(process: Program, text: str) -> str:
    """Return what it has printed when that holds a text."""
    seen = ""
    while text not in seen:
        seen += (await process.stdout.receive()).decode()
    return seen


async def rest(process: Program) -> Done:
    """Return what it prints from now on, and how it ends."""
    out = b"".join([chunk async for chunk in process.stdout]).decode()
    err = b"".join([chunk async for chunk in process.stderr]).decode()
    return Done(await process.wait(), out, err)


async def test_it_prints_what_is_there_of_an_agent_that_works_on(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with detached(tmp_path, TURN, [FakeCLI.text("Again."), FakeCLI.stall()], prompts=2) as ref:
            await happened(ref, "Again.")
            done = await run_agenthost("logs", ref.agent)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:4] == SAID
    assert lines[4].startswith("done     1 turn, ")
    assert lines[5:] == ["claude   Again."]


async def test_followed_it_is_read_to_its_end(tmp_path: Path) -> None:
    cli = FakeCLI(TURN).write(tmp_path / "claude")
    with anyio.fail_after(LIMIT):
        async with (
            HostedAgent(ClaudeAgentOptions(cli_path=cli), provider=PLAIN) as agent,
            run_command("logs", "--follow", agent.ref.agent, env=environment()) as process,
        ):
            await agent.query("go")
            await until_printed(process, "Done.\n")
            await agent.finish_input()
            async for _ in agent.receive_messages():
                pass
            done = await rest(process)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "ended    the agent has ended"


async def test_an_agent_that_fails_says_why_at_its_end(tmp_path: Path) -> None:
    async with detached(tmp_path, [FakeCLI.stderr("no such luck"), FakeCLI.leave(3)]) as ref:
        done = await run_agenthost("logs", "-f", ref.agent)
    assert done.exit_code == 0
    assert "ended    ProcessError: " in done.stdout


async def test_json_is_one_sdk_message_a_line_and_goes_on_at_its_cursor(tmp_path: Path) -> None:
    async with detached(tmp_path, TURN, prompts=1) as ref:
        await happened(ref, state="idle")
        done = await run_agenthost("logs", ref.agent, "--json")
        messages = [message_from_json(line) for line in done.stdout.splitlines()]
        assert [type(message).__name__ for message in messages[:2]] == ["SystemMessage", "AssistantMessage"]
        assert isinstance(messages[-1], sdk.ResultMessage)
        place = done.stderr.split()[-1]
        assert f"--after {place}" in done.stderr
        again = await run_agenthost("logs", ref.agent, "--json", "--after", place)
        assert (again.exit_code, again.stdout) == (0, "")
        # Each message is an event; the ones before are ready, connected and busy.
        for after, missing in (("oldest", 0), ("0", 0), ("5", 2)):
            some = await run_agenthost("logs", ref.agent, "--json", "--after", after)
            assert some.stdout.splitlines() == done.stdout.splitlines()[missing:]


async def test_a_name_or_a_place_that_is_none_is_told_in_a_sentence(tmp_path: Path) -> None:
    nobody = await run_agenthost("logs", "agent-x")
    async with detached(tmp_path) as ref:
        unknown = await run_agenthost("logs", "agent-x")
        nowhere = await run_agenthost("logs", ref.agent, "--after", "3:7")
    assert (nobody.exit_code, unknown.exit_code, nowhere.exit_code) == (1, 1, 2)
    assert "No agent is there; start one: agenthost run --detach" in nobody.stderr
    assert f"There are: {ref.agent} in sandbox {ref.sandbox_name} ({PLAIN})" in unknown.stderr
    assert "'3:7' is no place between two events" in nowhere.stderr
    for done, notices in ((nobody, 1), (unknown, 1), (nowhere, 0)):  # of the providers that are not set up
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1 + notices


async def test_ctrl_c_leaves_quietly(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            detached(tmp_path, [FakeCLI.text("Hm."), FakeCLI.stall()]) as ref,
            run_command("logs", "-f", ref.agent, env=environment()) as process,
        ):
            await until_printed(process, "Hm.\n")
            process.send_signal(signal.SIGINT)
            assert await rest(process) == Done(130, "", "")


async def test_a_sandbox_that_ends_before_its_agent_is_told(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            detached(tmp_path, [FakeCLI.text("Hm."), FakeCLI.stall()]) as ref,
            run_command("logs", "-f", ref.agent, env=environment()) as process,
        ):
            await until_printed(process, "Hm.\n")
            await end(ref)
            done = await rest(process)
    assert done.exit_code == 1
    assert f"sandbox {ref.sandbox_name} has ended" in done.stderr
    assert "Traceback" not in done.stderr


async def test_what_it_asks_and_waits_for_is_among_what_it_says(tmp_path: Path) -> None:
    asking = FakeCLI.tool("Bash", {"command": "rm -r x\x1b[2J", "description": "d"}, ask=True)
    async with detached(tmp_path, [asking], can_use_tool=never) as ref:
        await happened(ref, kind="request")
        done = await run_agenthost("logs", ref.agent)
    assert 'asks     Bash {"command": "rm -r x\\u001b[2J", "description": "d"}' in done.stdout.splitlines()
    async with detached(tmp_path, [FakeCLI.model()]) as ref:
        await happened(ref, state="waiting_for_host")
        done = await run_agenthost("logs", ref.agent)
    assert "waits    for a host, to ask the model for it: see agenthost attach" in done.stdout.splitlines()
