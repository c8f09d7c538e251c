"""A sandbox that was started ahead: who takes it, and that nobody's is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from claude_agent_sdk import ResultMessage, create_sdk_mcp_server
from support.hosting import sandboxes_of
from support.preloaded import run_to_end

from agenthost import HostedAgent, NetworkPolicy, SandboxSpec, open_provider, prewarm
from agenthost.errors import UnknownProviderError, UnsupportedError
from agenthost.testing import FakeCLI, Text

LIMIT = 120
PLAIN = "local-unisolated"


@pytest.fixture
def cli(tmp_path: Path) -> dict[str, Any]:
    """Return the options of an agent that asks no model."""
    return {"cli_path": FakeCLI().write(tmp_path / "claude")}


async def test_the_next_agent_takes_it_and_ends_it(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("hello"), Text("again")), prewarm("local") as warm:
            await warm.wait_booted()
            (waiting,) = await sandboxes_of("local")
            async with HostedAgent(provider="local") as agent:
                assert agent.sandbox.id == waiting
                await agent.query("hi")
                messages = [message async for message in agent.receive_response()]
                assert isinstance(messages[-1], ResultMessage)
                assert messages[-1].result == "hello"
            assert await sandboxes_of("local") == []
            async with HostedAgent(provider="local") as agent:  # it was for one
                assert agent.sandbox.id != waiting
                await agent.query("hi")
                assert [message async for message in agent.receive_response()]
    assert await sandboxes_of("local") == []


async def test_an_agent_may_ask_before_it_has_booted(cli: dict[str, Any]) -> None:
    with anyio.fail_after(LIMIT):
        warm = prewarm(PLAIN)
        async with HostedAgent(cli, provider=PLAIN) as agent:
            assert agent.sandbox.id == await warm.sandbox_id()
            await agent.query("hi")
            assert [message async for message in agent.receive_response()]
    assert await sandboxes_of(PLAIN) == []


@pytest.mark.parametrize("mcp", [False, True])
async def test_an_agent_with_servers_in_process_is_warned_when_its_runner_lacks_what_they_need(
    cli: dict[str, Any], caplog: pytest.LogCaptureFixture, mcp: bool
) -> None:
    servers = {"own": create_sdk_mcp_server("own", tools=[])}
    with anyio.fail_after(LIMIT):
        warm = prewarm(PLAIN, mcp=mcp)
        async with HostedAgent({**cli, "mcp_servers": servers}, provider=PLAIN) as agent:
            assert agent.sandbox.id == await warm.sandbox_id()
            await agent.query("hi")
            assert [message async for message in agent.receive_response()]
    assert ("prewarm(mcp=True)" in caplog.text) is not mcp


async def test_one_for_another_spec_is_not_taken_and_ends_with_its_block(cli: dict[str, Any]) -> None:
    with anyio.fail_after(LIMIT):
        async with prewarm(PLAIN, spec=SandboxSpec(max_lifetime=600)) as warm:
            async with HostedAgent(cli, provider=PLAIN) as agent:
                assert agent.sandbox.id != await warm.sandbox_id()
            assert len(await sandboxes_of(PLAIN)) == 1
    assert await sandboxes_of(PLAIN) == []


async def test_what_cannot_be_made_is_raised_where_it_is_asked_for() -> None:
    with pytest.raises(UnknownProviderError, match="Did you mean"):
        prewarm("locl")
    spec = SandboxSpec(network=NetworkPolicy.allow(["example.org"]))
    with anyio.fail_after(LIMIT), prewarm("local", spec=spec) as warm:
        with pytest.raises(UnsupportedError, match="allow"):
            await warm.wait_booted()
        with pytest.raises(UnsupportedError, match="allow"):
            await HostedAgent(provider="local", spec=spec).connect()


async def test_a_program_that_ends_without_an_agent_leaves_no_sandbox() -> None:
    program = "import agenthost, anyio; anyio.run(agenthost.prewarm('local').sandbox_id)"
    with anyio.fail_after(LIMIT):
        done = await run_to_end(["python", "-c", program])
        assert (done.exit_code, done.stderr) == (0, "")
    assert await sandboxes_of("local") == []


async def test_one_that_has_ended_meanwhile_is_replaced_by_another(cli: dict[str, Any]) -> None:
    with anyio.fail_after(LIMIT):
        async with prewarm(PLAIN) as warm:
            await warm.wait_booted()
            async with open_provider(PLAIN) as provider:
                await (await provider.get(await warm.sandbox_id())).terminate()
            async with HostedAgent(cli, provider=PLAIN) as agent:
                assert agent.sandbox.id != await warm.sandbox_id()
                await agent.query("hi")
                assert [message async for message in agent.receive_response()]
    assert await sandboxes_of(PLAIN) == []
