"""An agent outlives its host, and somebody who has nothing but the command line brings it to its end.

The real claude CLI in an isolated sandbox, with a scripted model on this machine.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anyio
import pytest
from cli.scripted_runs import KEY, sandboxes
from support.command_line import environment, run_agenthost
from support.hosting import model_environment
from support.preloaded import run_preloaded

from agenthost import AgentRef
from agenthost.testing import ModelRequest, ScriptedModel, Stall, Text, ToolUse

LIMIT = 180

HOST = """
import anyio
from agenthost import HostedAgent

async def main():
    options = {"permission_mode": "bypassPermissions"}
    async with HostedAgent(options, provider="local") as agent:
        await agent.query("Make it")
        print(agent.ref.agent, flush=True)
        async for message in agent.receive_messages():
            pass

anyio.run(main)
"""

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


async def listed() -> list[dict[str, object]]:
    done = await run_agenthost("ps", "--json")
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def test_the_agent_of_a_killed_host_is_finished_from_the_command_line(tmp_path: Path) -> None:
    asked = anyio.Event()

    def first(_: ModelRequest) -> ToolUse:
        return ToolUse("Bash", {"command": "echo begun > begun.txt; echo it is there"})

    def lost(request: ModelRequest) -> Stall:
        assert "it is there" in request.tool_results[0].text
        asked.set()
        return Stall()  # the host dies while it waits for this answer

    # The request whose answer died with the host is asked again, by whoever comes.
    script = [first, lost, ToolUse("Bash", {"command": "echo made > made.txt"}), Text("Made.")]
    with anyio.fail_after(LIMIT):
        async with ScriptedModel(script, api_key=KEY) as model:
            env = environment(model_environment(model, KEY))
            async with run_preloaded(["python", "-c", HOST], env=env, stderr=None) as host:
                await asked.wait()
                host.kill()
                await host.wait()
                name = b"".join([chunk async for chunk in host.stdout]).decode().strip()

            (row,) = await listed()
            assert (row["agent"], row["provider"], row["driven"]) == (name, "local", False)
            assert row["state"] in ("working", "waiting for a host")
            assert (await listed())[0]["agent"] == name  # looking again changes nothing

            done = await run_agenthost(
                *("attach", name, "--finish", "--download", "out"),
                env=model_environment(model, KEY),
                cwd=tmp_path,
            )
    assert done.exit_code == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    for expected in ("tool     Bash echo made > made.txt", "claude   Made."):
        assert lines.count(expected) == 1
    assert any(line.startswith("done     ") for line in lines)
    assert (tmp_path / "out" / "begun.txt").read_text() == "begun\n"
    assert (tmp_path / "out" / "made.txt").read_text() == "made\n"
    assert KEY not in done.stdout + done.stderr
    assert await listed() == []
    assert sandboxes() == []


@pytest.mark.full
async def test_run_detach_leaves_an_agent_that_waits_for_somebody_to_ask_the_model(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with ScriptedModel([Text("Hello.")], api_key=KEY) as model:
            done = await run_agenthost(
                *("run", "Say hello", "--detach", "--lifetime", "600"),
                env=model_environment(model, KEY),
                cwd=tmp_path,
            )
            assert done.exit_code == 0, done.stderr
            ref = AgentRef.from_json(done.stdout)
            assert done.stdout.count("\n") == 1
            for told in (
                f"{ref.agent} runs in sandbox {ref.sandbox_name}, for 10 min at most",
                "what it asks the model waits until somebody attaches",
                f"watch it: agenthost logs -f {ref.agent}",
                f"take it over: agenthost attach {ref.agent}",
                f"end it: agenthost stop {ref.agent}",
            ):
                assert told in done.stderr
            assert model.turns == []
            finished = await run_agenthost(
                "attach", done.stdout, "--finish", env=model_environment(model, KEY)
            )
    assert finished.exit_code == 0, finished.stderr
    assert "claude   Hello.\n" in finished.stdout
    assert KEY not in done.stdout + done.stderr + finished.stdout + finished.stderr
    assert sandboxes() == []


@pytest.mark.full
async def test_with_the_key_in_the_sandbox_it_works_alone() -> None:
    with anyio.fail_after(LIMIT):
        async with ScriptedModel([Text("Hello.")], api_key=KEY) as model:
            done = await run_agenthost(
                *("run", "Say hello", "--detach", "--provider", "local-unisolated", "--credentials", "env"),
                env=model_environment(model, KEY),
            )
            assert done.exit_code == 0, done.stderr
            ref = AgentRef.from_json(done.stdout)
            assert "the key is put into the sandbox, where the agent can read it" in done.stderr
            assert "waits until somebody attaches" not in done.stderr
            # No key is needed here to bring it to its end.
            finished = await run_agenthost("attach", ref.agent, "--finish")
    assert finished.exit_code == 0, finished.stderr
    assert "claude   Hello.\n" in finished.stdout
    assert sandboxes() == []


async def test_nothing_can_be_downloaded_from_an_agent_that_has_just_begun(tmp_path: Path) -> None:
    done = await run_agenthost("run", "x", "--detach", "--download", str(tmp_path))
    assert done.exit_code == 2
    assert "attach --finish --download" in " ".join(done.stderr.replace("│", " ").split())
    assert sandboxes() == []
