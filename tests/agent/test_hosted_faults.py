"""What goes wrong inside is raised outside, as the SDK's own exceptions, and leaves nothing behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import claude_agent_sdk
import pytest
from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, ResultMessage, StreamEvent, SystemMessage
from support.hosting import sandboxes_of

from agenthost import HostedAgent, Limits, SandboxSpec, open_provider
from agenthost.errors import (
    AgentError,
    ConfigError,
    IncompleteTurnError,
    MissingCredentialError,
    SandboxGoneError,
    SandboxStartError,
    UnsupportedError,
)
from agenthost.testing import FakeCLI

LIMIT = 120
PLAIN = "local-unisolated"
SO_FAR = FakeCLI.text("so far")
LAST = "out of cheese: ünïcode \U0001f9c0"
BROKEN = b'{"type":"assistant","message":{"role":"assistant"}}\n'
STUBBORN = FakeCLI(at_start=[FakeCLI.spawn("sleep", "1000")], stubborn=True)


def plays(directory: Path, cli: FakeCLI, **options: Any) -> dict[str, Any]:
    """Return the options of an agent whose CLI this is."""
    return {"cli_path": cli.write(directory / "claude"), **options}


async def read_all(agent: HostedAgent) -> list[Any]:
    return [message async for message in agent.receive_messages()]


async def test_a_cli_that_dies_in_a_turn_is_a_process_error_with_exit_code_and_stderr(tmp_path: Path) -> None:
    got: list[Any] = []
    with anyio.fail_after(LIMIT):
        async with HostedAgent(
            plays(
                tmp_path,
                FakeCLI([SO_FAR, FakeCLI.stderr("warming up"), FakeCLI.stderr(LAST), FakeCLI.leave(137)]),
            ),
            provider=PLAIN,
        ) as agent:
            await agent.query("hi")
            with pytest.raises(claude_agent_sdk.ProcessError, match="out of cheese") as caught:
                async for message in agent.receive_response():
                    got.append(message)  # noqa: PERF401 - what came before the error counts
            with pytest.raises(claude_agent_sdk.ProcessError):
                await agent.query("again")
            with pytest.raises(claude_agent_sdk.ProcessError):
                await agent.interrupt()
            # The sandbox is still there to look into.
            assert (await agent.sandbox.exec(["true"])).exit_code == 0
        assert await sandboxes_of(PLAIN) == []

    assert caught.value.exit_code == 137
    assert caught.value.stderr is not None
    assert caught.value.stderr.endswith(LAST)
    assert [type(message) for message in got] == [SystemMessage, AssistantMessage]


@pytest.mark.parametrize("last", [FakeCLI.raw(BROKEN[:38]), SO_FAR], ids=["half a line", "a message"])
async def test_a_stream_that_ends_without_a_result_is_an_incomplete_turn(tmp_path: Path, last: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with HostedAgent(plays(tmp_path, FakeCLI([last, FakeCLI.leave(0)])), provider=PLAIN) as agent:
            await agent.query("hi")
            with pytest.raises(IncompleteTurnError):
                await read_all(agent)


async def test_a_cli_that_leaves_between_turns_ends_the_messages(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with HostedAgent(
            plays(tmp_path, FakeCLI([FakeCLI.leave(0, after_result=True)])), provider=PLAIN
        ) as agent:
            await agent.query("hi")
            messages = await read_all(agent)
            with pytest.raises(claude_agent_sdk.CLIConnectionError, match="has ended"):
                await agent.query("more")

    assert isinstance(messages[-1], ResultMessage)


async def test_invalid_utf8_on_stdout_is_a_decode_error(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with HostedAgent(
            plays(tmp_path, FakeCLI([FakeCLI.raw(b'{"type":"system","subtype":"caf\xe9"}\n')])),
            provider=PLAIN,
        ) as agent:
            await agent.query("hi")
            with pytest.raises(claude_agent_sdk.CLIJSONDecodeError):
                await read_all(agent)


async def test_a_line_of_20_mb_arrives_whole(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with HostedAgent(
            plays(tmp_path, FakeCLI([FakeCLI.partials(1, 20_000_000)]), include_partial_messages=True),
            provider=PLAIN,
        ) as agent:
            await agent.query("hi")
            messages = [message async for message in agent.receive_response()]

    (event,) = [message for message in messages if isinstance(message, StreamEvent)]
    assert event.event["delta"]["text"] == "0 " + "." * (20_000_000 - 2)


async def test_one_message_that_cannot_be_read_is_raised_in_its_place_and_the_rest_follows(
    tmp_path: Path,
) -> None:
    with anyio.fail_after(LIMIT):
        async with HostedAgent(
            plays(tmp_path, FakeCLI([FakeCLI.raw(BROKEN), FakeCLI.text("after")])), provider=PLAIN
        ) as agent:
            await agent.query("hi")
            with pytest.raises(claude_agent_sdk.ClaudeSDKError):
                [message async for message in agent.receive_response()]
            rest = [message async for message in agent.receive_response()]

    assert [type(message) for message in rest] == [AssistantMessage, ResultMessage]


async def test_a_flood_of_partial_messages_arrives_whole_and_in_order(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with HostedAgent(
            plays(tmp_path, FakeCLI([FakeCLI.partials(5_000, 2_000)]), include_partial_messages=True),
            provider=PLAIN,
        ) as agent:
            await agent.query("hi")
            messages = [message async for message in agent.receive_response()]

    numbers = [FakeCLI.number(message) for message in messages]
    assert numbers == list(range(1, 5_003))  # with an init before and a result behind


async def test_a_cli_that_is_not_there_fails_connect_and_leaves_nothing() -> None:
    with anyio.fail_after(LIMIT):
        with pytest.raises(claude_agent_sdk.CLINotFoundError, match="/no/such/claude"):
            await HostedAgent({"cli_path": "/no/such/claude"}, provider=PLAIN).connect()
        assert await sandboxes_of(PLAIN) == []


async def test_a_cli_that_does_not_start_fails_connect_with_its_last_words(tmp_path: Path) -> None:
    agent = HostedAgent(
        plays(tmp_path, FakeCLI(at_start=[FakeCLI.stderr("cannot start: no licence"), FakeCLI.leave(3)])),
        provider=PLAIN,
    )
    with anyio.fail_after(LIMIT):
        with pytest.raises(claude_agent_sdk.ProcessError, match="cannot start: no licence") as caught:
            await agent.connect()
        assert await sandboxes_of(PLAIN) == []

    assert caught.value.exit_code == 3
    with pytest.raises(claude_agent_sdk.CLIConnectionError, match="Not connected"):
        agent.receive_messages()


async def test_a_cwd_of_the_host_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        with pytest.raises(ConfigError, match=r"options\.cwd.*exists on this machine.*workspace="):
            await HostedAgent({"cwd": str(tmp_path)}, provider="local").connect()
        async with open_provider("local") as provider:
            assert [info.id async for info in provider.list()] == []


async def test_no_key_is_told_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(MissingCredentialError, match="ANTHROPIC_API_KEY"):
        await HostedAgent(provider=PLAIN).connect()


async def test_an_option_that_the_sdk_inside_lacks_is_refused_by_name() -> None:
    @dataclass
    class OfANewerSdk(ClaudeAgentOptions):
        telepathy: bool = True

    # A default is not sent.
    options = OfANewerSdk()
    options.telepathy = False
    with anyio.fail_after(LIMIT):
        with pytest.raises(UnsupportedError, match="'telepathy'"):
            await HostedAgent(options, provider=PLAIN).connect()
        assert await sandboxes_of(PLAIN) == []


async def test_a_start_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        with pytest.raises(SandboxStartError, match="not ready within 3 s"):
            await HostedAgent(
                plays(tmp_path, FakeCLI(at_start=[FakeCLI.stall(deaf=True)])),
                provider=PLAIN,
                limits=Limits(start=3),
            ).connect()
        assert await sandboxes_of(PLAIN) == []


async def test_a_runner_that_is_killed_is_told_with_its_exit_code(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with HostedAgent(plays(tmp_path, FakeCLI()), provider=PLAIN) as agent:
            own = agent.sandbox.workdir.rpartition("/")[0]
            # In brackets, because a shell that finds its own command line kills itself.
            pattern = f"{own}/boot/[r]unner.pyz"
            find = f"for d in /proc/[0-9]*; do grep -qa '{pattern}' $d/cmdline && kill -9 ${{d#/proc/}}; done"
            await agent.sandbox.exec(["sh", "-c", f"{find}; true"])
            with pytest.raises(AgentError, match="exit code 137"):
                await read_all(agent)


async def test_a_sandbox_that_is_gone_is_told_and_leaving_does_not_hang(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with HostedAgent(plays(tmp_path, FakeCLI()), provider=PLAIN) as agent:
            await agent.sandbox.terminate()
            with pytest.raises(SandboxGoneError):
                await read_all(agent)
            with pytest.raises(SandboxGoneError):
                await agent.query("hi")
        assert await sandboxes_of(PLAIN) == []


async def test_an_exception_in_the_block_is_the_one_that_leaves_it(tmp_path: Path) -> None:
    class MineError(Exception):
        pass

    with anyio.fail_after(LIMIT):
        with pytest.raises(MineError):
            async with HostedAgent(plays(tmp_path, STUBBORN), provider=PLAIN):
                raise MineError
        assert await sandboxes_of(PLAIN) == []


async def test_cancelled_at_any_moment_nothing_is_left(tmp_path: Path) -> None:
    async def use(reached: anyio.Event, stage: str) -> None:
        def tell(step: Any) -> None:
            if step.stage == stage:
                reached.set()

        options = plays(tmp_path, STUBBORN)
        async with HostedAgent(options, provider=PLAIN, workspace=tmp_path, on_progress=tell) as agent:
            await agent.query("hi")
            async for _ in agent.receive_messages():
                if stage == "turn":
                    reached.set()

    with anyio.fail_after(LIMIT):
        for stage in ("sandbox", "workspace", "agent", "ready", "turn"):
            async with anyio.create_task_group() as tasks:
                reached = anyio.Event()
                tasks.start_soon(use, reached, stage)
                await reached.wait()
                tasks.cancel_scope.cancel()
            assert await sandboxes_of(PLAIN) == []


async def test_a_lifetime_that_is_over_ends_the_agent(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        spec = SandboxSpec(max_lifetime=10)  # on a busy machine a start takes some of them
        async with HostedAgent(plays(tmp_path, FakeCLI()), provider=PLAIN, spec=spec) as agent:
            with pytest.raises((AgentError, SandboxGoneError)):
                await read_all(agent)
