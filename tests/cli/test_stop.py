"""``agenthost stop``: agents and sandboxes end, those that were named and no others."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from cli.detached import PLAIN, detached, is_there
from support.command_line import environment, run_agenthost, run_command

from agenthost import HostedAgent, SandboxSpec, open_provider
from agenthost.cli import finding
from agenthost.cli.stop import stop_named
from agenthost.errors import LinkError, SandboxError
from agenthost.link.client import GuestSandbox
from agenthost.testing import FakeCLI

pytestmark = pytest.mark.usefixtures("host_key")


async def test_an_agent_ends_with_its_sandbox_and_one_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with (
        detached(tmp_path, [FakeCLI.stall(deaf=True)]) as first,
        detached(tmp_path) as second,
        detached(tmp_path) as third,
    ):
        done = await run_agenthost("stop", first.agent, "agent-nope", second.sandbox_name)
        assert done.exit_code == 1
        assert done.stdout.splitlines() == [
            f"ended {ref.agent} and sandbox {ref.sandbox_name} ({PLAIN})" for ref in (first, second)
        ]
        assert "there is no agent 'agent-nope'" in done.stderr
        assert third.agent in done.stderr
        assert [await is_there(ref) for ref in (first, second, third)] == [False, False, True]
        assert (await run_agenthost("stop", third.to_json())).exit_code == 0
        assert not await is_there(third)


async def test_a_dry_run_prints_what_all_would_end_and_ends_nothing(tmp_path: Path) -> None:
    async with detached(tmp_path) as ref:
        done = await run_agenthost("stop", "--all", "--dry-run")
        assert done.exit_code == 0, done.stderr
        assert done.stdout == f"would end {ref.agent} and sandbox {ref.sandbox_name} ({PLAIN})\n"
        assert await is_there(ref)
        assert (await run_agenthost("stop", ref.agent, "--dry-run")).exit_code == 2
        assert await is_there(ref)
    assert (await run_agenthost("stop", "--all", "--dry-run")).stdout.startswith("no agents; start one")


@pytest.mark.parametrize(
    ("typed", "options", "ends"), [(b"n\n", [], False), (b"y\n", [], True), (b"", ["--yes"], True)]
)
async def test_on_a_terminal_all_asks_first(
    tmp_path: Path, typed: bytes, options: list[str], ends: bool
) -> None:
    async with detached(tmp_path) as ref:
        terminal, stdin = os.openpty()
        try:
            os.write(terminal, typed)
            async with run_command("stop", "--all", *options, env=environment(), stdin=stdin) as program:
                printed = b"".join([chunk async for chunk in program.stdout]).decode()
                code = await program.wait()
        finally:
            os.close(terminal)
            os.close(stdin)
        assert ("End all of these?" in printed) is not bool(options)
        assert (code == 0, await is_there(ref)) == (ends, not ends)


async def test_all_ends_every_agent_and_leaves_sandboxes_that_have_none(tmp_path: Path) -> None:
    async with open_provider(PLAIN) as provider, detached(tmp_path) as first, detached(tmp_path) as second:
        empty = await provider.create(SandboxSpec())
        try:
            other = await run_agenthost("stop", "--all", "--provider", "local")
            assert (other.exit_code, await is_there(first)) == (0, True)
            done = await run_agenthost("stop", "--all")
            assert done.exit_code == 0, done.stderr
            assert sorted(line.split()[1] for line in done.stdout.splitlines()) == sorted(
                [first.agent, second.agent]
            )
            assert not await is_there(first)
            assert not await is_there(second)
            assert (await empty.exec(["true"])).exit_code == 0
            # By its name it is ended all the same.
            done = await run_agenthost("stop", empty.name)
            assert done.stdout == f"ended sandbox {empty.name} ({PLAIN})\n"
        finally:
            await empty.terminate()
    assert (await run_agenthost("stop", "--all")).stdout.startswith("no agents; start one")


@pytest.mark.full
async def test_of_several_in_a_sandbox_only_the_one_that_was_named_ends(tmp_path: Path) -> None:
    async with open_provider(PLAIN) as provider:
        shared = await provider.create(SandboxSpec())
        assert isinstance(shared, GuestSandbox)
        try:
            async with (
                detached(tmp_path, sandbox=shared) as first,
                detached(tmp_path, [FakeCLI.stall()], sandbox=shared) as second,
                detached(tmp_path, sandbox=shared) as third,
            ):
                done = await run_agenthost("stop", shared.name)
                assert (done.exit_code, "names more than one agent" in done.stderr) == (1, True)
                done = await run_agenthost("stop", second.agent)
                title = f"sandbox {shared.name} ({PLAIN})"
                assert done.stdout == (
                    f"ended {second.agent}; 2 other agents live in {title}, which runs on\n"
                )
                assert [one.agent for one in await shared.agents()] == [first.agent, third.agent]
                # The last one takes the sandbox with it.
                done = await run_agenthost("stop", first.agent, third.agent)
                assert done.stdout.splitlines()[1] == f"ended {third.agent} and {title}"
                assert not await is_there(first)
        finally:
            await shared.terminate()


async def test_a_whole_sandbox_ends_when_that_is_said(tmp_path: Path) -> None:
    async with open_provider(PLAIN) as provider:
        shared = await provider.create(SandboxSpec())
        try:
            async with detached(tmp_path, sandbox=shared) as first, detached(tmp_path, sandbox=shared):
                done = await run_agenthost("stop", "--sandbox", first.agent)
                assert done.exit_code == 0, done.stderr
                assert not await is_there(first)
        finally:
            await shared.terminate()


async def test_its_driver_is_told(tmp_path: Path) -> None:
    cli = FakeCLI([FakeCLI.stall()]).write(tmp_path / "claude")
    async with HostedAgent({"cli_path": cli}, provider=PLAIN) as agent:
        await agent.query("go")
        await anext(agent.receive_messages())
        assert (await run_agenthost("stop", agent.ref.agent)).exit_code == 0
        with pytest.raises((SandboxError, LinkError)):
            async for _ in agent.receive_messages():
                pass


async def test_a_sandbox_that_does_not_answer_is_ended_only_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(finding, "PATIENCE", 0.5)
    async with detached(tmp_path) as ref, open_provider(PLAIN) as provider:
        sandbox = await provider.get(ref.sandbox)
        guest = int((await sandbox.exec(["python3", "-c", "import os; print(os.getppid())"])).stdout)
        os.kill(guest, signal.SIGSTOP)
        assert not await stop_named([], whole=False)
        assert not await stop_named([ref.sandbox_name], whole=False)
        advice = f"`agenthost stop --sandbox {ref.sandbox_name}` ends it all the same"
        assert capsys.readouterr().err.count(advice) == 2
        assert await stop_named([ref.sandbox_name], whole=True)
        assert not await is_there(ref)


async def test_what_makes_no_sense_is_refused() -> None:
    for arguments in (["stop"], ["stop", "x", "--all"]):
        done = await run_agenthost(*arguments)
        assert done.exit_code == 2
        assert "name agents, or say --all" in done.stderr
