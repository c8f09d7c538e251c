"""``agenthost ps``: what there is, seen by somebody who changes nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import ClaudeAgentOptions
from cli.detached import PLAIN, detached, end, happened, never
from support.command_line import Done, run_agenthost

from agenthost import HostedAgent, SandboxSpec, open_provider
from agenthost.cli import finding
from agenthost.cli.finding import open_finder
from agenthost.cli.ps import tell_time
from agenthost.link.client import GuestSandbox
from agenthost.testing import FakeCLI

pytestmark = pytest.mark.usefixtures("host_key")


def rows(done: Done) -> dict[str, dict[str, Any]]:
    """Return what was listed, by the agent's name."""
    assert done.exit_code == 0, done.stderr
    return {row["agent"]: row for row in map(json.loads, done.stdout.splitlines())}


async def test_with_no_agents_it_says_how_to_start_one() -> None:
    done = await run_agenthost("ps")
    assert done.exit_code == 0
    assert done.stdout.startswith("no agents; start one: agenthost run --detach")
    done = await run_agenthost("ps", "--json")
    assert (done.exit_code, done.stdout) == (0, "")


async def test_it_tells_what_each_agent_does(tmp_path: Path) -> None:
    ask = FakeCLI.tool("Bash", {"command": "ls"}, ask=True)
    async with (
        detached(tmp_path, [FakeCLI.text("hi")]) as idle,
        detached(tmp_path, [ask], can_use_tool=never) as decides,
        detached(tmp_path, [FakeCLI.model()]) as waits,
        detached(tmp_path, [FakeCLI.stall()]) as works,
        detached(tmp_path, [FakeCLI.leave(3)]) as dies,
    ):
        await happened(idle, state="idle")
        await happened(decides, kind="request")
        await happened(waits, state="waiting_for_host")
        await happened(works, kind="message")
        await happened(dies, kind="end")
        found = rows(await run_agenthost("ps", "--json"))
        table = (await run_agenthost("ps")).stdout.splitlines()
    states = {
        idle.agent: "idle",
        decides.agent: "waiting for a decision",
        waits.agent: "waiting for a host",
        works.agent: "working",
        dies.agent: "ended",
    }
    assert {name: row["state"] for name, row in found.items()} == states
    assert {row["driven"] for row in found.values()} == {False}
    assert (found[dies.agent]["exit_code"], found[dies.agent]["error"]) == (0, "ProcessError")
    assert found[idle.agent]["session_id"]
    assert 0 < found[idle.agent]["ends_at"] - found[idle.agent]["created_at"] <= 3600
    assert " ".join(table[0].split()) == "AGENT SANDBOX PROVIDER STATE DRIVEN SESSION AGE ENDS IN"
    assert len(table) == 1 + len(states)
    line = next(line for line in table if idle.agent in line)
    for cell in (idle.sandbox_name, PLAIN, " idle ", " no ", found[idle.agent]["session_id"][:8], " min"):
        assert cell in line
    assert any("ended with exit code 0: ProcessError" in line for line in table)


async def test_it_changes_nothing_for_the_agent_and_its_driver(tmp_path: Path) -> None:
    cli = FakeCLI([FakeCLI.text("one")], [FakeCLI.text("two")]).write(tmp_path / "claude")
    options = ClaudeAgentOptions(cli_path=cli)
    async with HostedAgent(options, provider=PLAIN) as agent, open_provider(PLAIN) as provider:
        other = await provider.get(agent.sandbox.id)
        assert isinstance(other, GuestSandbox)
        await agent.query("1")
        async for _ in agent.receive_response():
            pass
        before = await other.agents()
        (row,) = rows(await run_agenthost("ps", "--json")).values()
        assert (row["state"], row["driven"], row["session_id"]) == ("idle", True, agent.session_id)
        assert await other.agents() == before
        await agent.query("2")
        assert [message async for message in agent.receive_response()]


async def test_one_provider_may_be_chosen_and_must_exist(tmp_path: Path) -> None:
    async with detached(tmp_path) as ref:
        assert ref.agent in rows(await run_agenthost("ps", "--provider", PLAIN, "--json"))
        assert ref.agent not in rows(await run_agenthost("ps", "--provider", "local", "--json"))
    done = await run_agenthost("ps", "--provider", "lcal")
    assert done.exit_code == 2
    assert "Did you mean 'local'?" in done.stderr


async def test_a_sandbox_without_an_agent_and_one_of_another_deployment_are_rows(tmp_path: Path) -> None:
    async with detached(tmp_path) as ref, open_provider(PLAIN) as provider:
        empty = await provider.create(SandboxSpec())
        try:
            listed = (await run_agenthost("ps")).stdout
            foreign = (await run_agenthost("ps", env={"AGENTHOST_SECRET": "of somebody else" * 2})).stdout
        finally:
            await empty.terminate()
    assert [line.split()[0] for line in listed.splitlines() if " no agent " in line] == ["-"]
    assert ref.agent in listed
    assert ref.agent not in foreign
    assert foreign.count("cannot be asked: it was made with another deployment secret") == 2


async def test_a_provider_that_cannot_be_asked_is_told_and_nobody_says_that_there_is_nothing() -> None:
    broken = {"AGENTHOST_STATE_DIR": "/proc/nope"}
    for command in (["ps"], ["stop", "--all"], ["logs", "agent-x"]):
        done = await run_agenthost(*command, env=broken)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "provider local cannot be asked: the deployment secret cannot be kept" in done.stderr


async def test_a_guest_that_does_not_answer_is_a_row_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "PATIENCE", 0.5)
    async with detached(tmp_path) as ref, open_provider(PLAIN) as provider:
        sandbox = await provider.get(ref.sandbox)
        program = "import os; print(os.getppid())"
        guest = int((await sandbox.exec(["python3", "-c", program])).stdout)
        os.kill(guest, signal.SIGSTOP)
        try:
            async with open_finder() as finder:
                (seen,) = await finder.sandboxes()
        finally:
            os.kill(guest, signal.SIGCONT)
        assert (seen.sandbox, seen.agents, seen.problem) == (None, (), "no answer within 0.5 s")


async def test_what_an_agent_says_controls_no_terminal(tmp_path: Path) -> None:
    name = "\x1b]0;renamed\x07"
    async with detached(tmp_path, [FakeCLI.raw(json.dumps(init(name)).encode() + b"\n")]) as ref:
        await happened(ref, state="idle")
        listed = (await run_agenthost("ps")).stdout
    assert "\x1b" not in listed
    assert "idle" in listed


def init(session: str) -> dict[str, Any]:
    """Return a line of the CLI that names a session."""
    fields = {"subtype": "success", "duration_ms": 1, "duration_api_ms": 1, "is_error": False, "num_turns": 1}
    return {"type": "result", **fields, "session_id": session, "uuid": "u"}


async def test_the_end_that_detach_has_set_is_told(tmp_path: Path) -> None:
    options = {"cli_path": FakeCLI().write(tmp_path / "claude")}
    async with HostedAgent(options, provider=PLAIN) as agent:
        ref = await agent.detach(keep_for=300)
    (row,) = rows(await run_agenthost("ps", "--json")).values()
    await end(ref)
    assert 0 < row["ends_at"] - row["created_at"] < 400


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-1, "0 s"), (0.4, "0 s"), (59, "59 s"), (120, "2 min"), (3599, "60 min"), (7200, "2 h"), (1e6, "12 d")],
)
def test_a_span_of_time_is_told_in_one_unit(seconds: float, told: str) -> None:
    assert tell_time(seconds) == told
