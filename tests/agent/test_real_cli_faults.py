"""Faults in the middle of a turn of the real CLI, in an isolated sandbox: each is told, and nothing hangs."""

from __future__ import annotations

import signal
from typing import Any

import anyio
import claude_agent_sdk
import pytest
from agent.turns import turn
from claude_agent_sdk import ResultMessage, StreamEvent
from support.hosting import sandboxes_of
from support.messages import texts

from agenthost import HostedAgent
from agenthost.errors import AgentError, SandboxGoneError
from agenthost.sandbox import Sandbox
from agenthost.testing import ApiError, ModelRequest, Stall, Text, ToolUse, Turn

LIMIT = 120
PARTIAL: dict[str, Any] = {"include_partial_messages": True}
CLI = "_bundled/[c]laude"  # in brackets, because a shell that finds its own command line kills itself
RUNNER = "boot/[r]unner.pyz"


def begins_and_stalls(_: ModelRequest) -> Turn:
    return Turn(Text("Let me think", end=False), Stall())


async def read_all(agent: HostedAgent) -> list[Any]:
    return [message async for message in agent.receive_messages()]


async def begin_a_turn(agent: HostedAgent) -> None:
    """Return when the model has begun to answer."""
    await agent.query("go")
    async for message in agent.receive_messages():
        if isinstance(message, StreamEvent) and message.event["type"] == "content_block_delta":
            return
    raise AssertionError("the turn ended before it began")


async def running(sandbox: Sandbox, pattern: str) -> list[str]:
    """Return the ids, in the sandbox, of the processes whose command line matches."""
    look = f"for d in /proc/[0-9]*; do grep -qa '{pattern}' $d/cmdline && echo ${{d#/proc/}}; done; true"
    return (await sandbox.exec(["sh", "-c", look])).stdout.decode().split()


async def kill(sandbox: Sandbox, pattern: str) -> None:
    """Kill the one process whose command line matches."""
    (pid,) = await running(sandbox, pattern)
    assert (await sandbox.exec(["kill", "-9", pid])).exit_code == 0


async def all_gone(sandbox: Sandbox, pattern: str) -> None:
    """Return when no process of the sandbox has a command line that matches; dying takes a moment."""
    look = f"while grep -qa '{pattern}' /proc/[0-9]*/cmdline 2>/dev/null; do sleep 0.05; done"
    await sandbox.exec(["sh", "-c", look], timeout=20)


async def test_a_cli_that_is_killed_in_a_turn_is_the_sdks_error_with_its_real_last_words(script: Any) -> None:
    options = {**PARTIAL, "extra_args": {"debug-to-stderr": None}}
    with anyio.fail_after(LIMIT):
        async with script(begins_and_stalls), HostedAgent(options, provider="local") as agent:
            await begin_a_turn(agent)
            await kill(agent.sandbox, CLI)
            with pytest.raises(claude_agent_sdk.ProcessError) as caught:
                await read_all(agent)
            with pytest.raises(claude_agent_sdk.ProcessError):
                await agent.query("again")
            with pytest.raises(claude_agent_sdk.ProcessError):
                await agent.interrupt()
            await all_gone(agent.sandbox, CLI)
        assert await sandboxes_of("local") == []

    assert caught.value.exit_code == -signal.SIGKILL
    assert caught.value.stderr is not None
    assert "[DEBUG]" in caught.value.stderr
    assert caught.value.stderr.splitlines()[-1] in str(caught.value)


async def test_a_runner_that_is_killed_in_a_turn_takes_its_cli_along_and_spares_the_sandbox(
    script: Any,
) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            script(begins_and_stalls, Text("Fine.")),
            HostedAgent(PARTIAL, provider="local") as agent,
        ):
            await begin_a_turn(agent)
            await kill(agent.sandbox, RUNNER)
            with pytest.raises(AgentError, match="exit code 137"):
                await read_all(agent)
            with pytest.raises(AgentError, match="exit code 137"):
                await agent.query("again")
            await all_gone(agent.sandbox, CLI)
            # The sandbox is as good as before: another agent works in it.
            async with HostedAgent(sandbox=agent.sandbox) as another:
                assert texts(await turn(another, "two")) == ["Fine."]
        assert await sandboxes_of("local") == []


async def test_a_sandbox_that_is_ended_in_a_turn_is_gone_for_all_who_wait(script: Any) -> None:
    gone: list[str] = []
    with anyio.fail_after(LIMIT):
        async with script(begins_and_stalls), HostedAgent(PARTIAL, provider="local") as agent:
            await begin_a_turn(agent)

            async def read() -> None:
                with pytest.raises(SandboxGoneError):
                    await read_all(agent)
                gone.append("reader")

            async def control() -> None:
                with pytest.raises(SandboxGoneError):
                    while True:
                        await agent.get_server_info()
                gone.append("caller")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                tasks.start_soon(control)
                await agent.sandbox.terminate()
            with pytest.raises(SandboxGoneError):
                await agent.query("again")
        assert await sandboxes_of("local") == []

    assert sorted(gone) == ["caller", "reader"]


@pytest.mark.parametrize("status", [400, 500])
async def test_an_error_of_the_model_is_an_error_result_and_the_agent_goes_on(
    script: Any, status: int
) -> None:
    def answer(request: ModelRequest) -> ApiError | Text:
        if request.prompt.endswith("one"):  # the CLI rephrases what was refused with 400, and asks again
            return ApiError(status, "no such thing", retry=False)
        return Text("Better.")

    with anyio.fail_after(LIMIT):
        async with script(answer), HostedAgent(provider="local") as agent:
            failed = await turn(agent, "one")
            after = await turn(agent, "two")

    assert isinstance(failed[-1], ResultMessage)
    assert failed[-1].is_error
    assert "no such thing" in str(failed[-1].result)
    assert texts(after) == ["Better."]
    assert not after[-1].is_error


async def test_a_model_that_fails_once_is_asked_again_by_the_cli(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            script(ApiError(500, headers={"retry-after": "0"}), Text("Better.")) as model,
            HostedAgent(provider="local") as agent,
        ):
            messages = await turn(agent, "one")
        model.assert_played()

    assert texts(messages) == ["Better."]
    assert not messages[-1].is_error


async def test_a_turn_whose_model_says_nothing_can_be_interrupted(script: Any) -> None:
    asked = anyio.Event()

    def silent(_: ModelRequest) -> Stall:
        asked.set()
        return Stall()

    with anyio.fail_after(LIMIT):
        async with (
            script(silent, Text("Again.")),
            HostedAgent(PARTIAL, provider="local") as agent,
        ):
            await agent.query("go")
            await asked.wait()
            await agent.interrupt()
            interrupted: list[Any] = [message async for message in agent.receive_response()]
            after = await turn(agent, "again")

    assert interrupted[-1].subtype == "error_during_execution"
    assert texts(after) == ["Again."]


async def test_a_reader_that_pauses_while_the_cli_goes_on_gets_every_message_in_order(script: Any) -> None:
    flood = Text.deltas(5_000, 3_000)  # more than the host keeps unread
    options = {**PARTIAL, "allowed_tools": ["Bash"]}
    got: list[Any] = []
    with anyio.fail_after(LIMIT):
        async with (
            script([flood, ToolUse("Bash", {"command": "touch /tmp/done"})], Text("Done.")),
            HostedAgent(options, provider="local") as agent,
        ):
            await begin_a_turn(agent)
            # The tool runs when all of the answer has been through the CLI.
            wait = "until [ -e /tmp/done ]; do sleep 0.05; done"
            assert (await agent.sandbox.exec(["sh", "-c", wait])).exit_code == 0
            got = [message async for message in agent.receive_response()]

    deltas = [m.event["delta"] for m in got if isinstance(m, StreamEvent) and "delta" in m.event]
    shown = [delta["text"] for delta in deltas if delta.get("type") == "text_delta"]
    assert "".join(shown) == flood.text[3_000:] + "Done."
    assert texts(got) == [flood.text, "Done."]
