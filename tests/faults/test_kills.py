"""Whatever is killed, and whenever: the host gets a typed error in time, and nothing is left."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import anyio
import anyio.to_thread
import claude_agent_sdk
import pytest
from claude_agent_sdk import PermissionResultAllow, StreamEvent
from faults import victims
from support.hosting import KEY, allow, sandboxes_of

from agenthost import AgentRef, HostedAgent, Limits
from agenthost.errors import (
    AgentError,
    AgentHostError,
    GuestLostError,
    SandboxGoneError,
    SandboxNotFoundError,
)
from agenthost.testing import FakeCLI

LIMITS = Limits(start=30, close=5, link_budget=10)
LIMIT = 60.0  # seconds, above the sum of what LIMITS allows for each stage
GONE_SECONDS = 10.0

ROLES = ("keeper", "sandbox", "guest", "runner", "cli")
GONE = (SandboxGoneError, GuestLostError, SandboxNotFoundError)
TOLD: dict[str, tuple[type[Exception], ...]] = {
    "keeper": GONE,
    "sandbox": GONE,
    "guest": GONE,
    "runner": (AgentError,),
    "cli": (claude_agent_sdk.ProcessError,),
}
SEEDS = [
    0,
    pytest.param(1, marks=pytest.mark.full),
    *(pytest.param(seed, marks=pytest.mark.deep) for seed in range(2, 6)),
]


@pytest.fixture
def provider(anyio_backend: str) -> str:
    """Return a provider: each backend has one of the two."""
    return "local" if anyio_backend == "asyncio" else "local-unisolated"


@pytest.fixture
def role(request: pytest.FixtureRequest, provider: str) -> str:
    """Return who is killed. Without isolation there is no sandbox around the guest."""
    named: str = request.param
    return "guest" if named == "sandbox" and provider != "local" else named


@pytest.fixture
def cli(tmp_path: Any, provider: str) -> dict[str, Any]:
    """Return what HostedAgent needs to run a FakeCLI."""
    directory = tmp_path / "workspace"
    directory.mkdir()
    steps = [FakeCLI.partials(50), FakeCLI.tool("Bash", ask=True), FakeCLI.spawn("sleep", "54321")]
    fake = FakeCLI([*steps, FakeCLI.partials(10_000, size=1000), FakeCLI.stall()])
    (directory / "claude").write_bytes(fake.source())
    (directory / "claude").chmod(0o755)
    path = "/workspace/claude" if provider == "local" else str(directory / "claude")
    options = {"cli_path": path, "include_partial_messages": True, "env": {"ANTHROPIC_API_KEY": KEY}}
    return {"options": options, "provider": provider, "workspace": directory, "limits": LIMITS}


async def nothing_is_left(provider: str) -> None:
    assert await anyio.to_thread.run_sync(victims.left_after, GONE_SECONDS) == []
    assert await sandboxes_of(provider) == []


async def kill(role: str) -> None:
    assert await anyio.to_thread.run_sync(victims.kill, role), f"there is no {role} to be killed"


async def begin_a_turn(agent: HostedAgent) -> None:
    """Send a prompt and return when the CLI has begun to answer."""
    await agent.query("go")
    async for message in agent.receive_messages():
        if isinstance(message, StreamEvent):
            return
    raise AssertionError("the turn ended before it began")


async def read_to_the_end(agent: HostedAgent) -> None:
    async for _ in agent.receive_messages():
        pass


def moment(*of: object, most: float) -> float:
    return random.Random(repr(of)).uniform(0, most)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("role", ROLES, indirect=True)
async def test_killed_while_it_starts(cli: dict[str, Any], provider: str, role: str, seed: int) -> None:
    with anyio.fail_after(LIMIT):
        refused = pytest.raises((AgentHostError, claude_agent_sdk.ClaudeSDKError))
        with victims.killer(role, moment(role, seed, provider, most=0.5)) as killed, refused:
            async with HostedAgent(**cli) as agent:
                await agent.query("go")
                await read_to_the_end(agent)
        assert killed.is_set()
        await nothing_is_left(provider)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("role", ROLES, indirect=True)
async def test_killed_in_the_middle_of_a_turn(
    cli: dict[str, Any], provider: str, role: str, seed: int
) -> None:
    cli["options"]["can_use_tool"] = allow
    after = int(moment(role, seed, most=200))
    seen: list[int | None] = []
    with anyio.fail_after(LIMIT):
        async with HostedAgent(**cli) as agent:
            await agent.query("go")
            with pytest.raises(TOLD[role]):
                async for message in agent.receive_messages():
                    seen.append(FakeCLI.number(message))
                    if len(seen) == after + 1:
                        await kill(role)
            with pytest.raises(TOLD[role]):
                await agent.query("more")
            with pytest.raises(TOLD[role]):
                await agent.interrupt()
            if role in ("runner", "cli"):  # the sandbox is still there to look into
                assert (await agent.sandbox.exec(["echo", "here"])).stdout == b"here\n"
        await nothing_is_left(provider)
    assert seen == list(range(1, len(seen) + 1))


@pytest.mark.parametrize("role", ROLES, indirect=True)
async def test_killed_while_a_decision_is_open(cli: dict[str, Any], provider: str, role: str) -> None:
    asked: list[str] = []

    async def decide(name: str, *_: object) -> PermissionResultAllow:
        asked.append(name)
        await kill(role)
        return PermissionResultAllow()

    cli["options"]["can_use_tool"] = decide
    with anyio.fail_after(LIMIT):
        async with HostedAgent(**cli) as agent:
            await agent.query("go")
            with pytest.raises(TOLD[role]):
                await read_to_the_end(agent)
        await nothing_is_left(provider)
    assert asked == ["Bash"]


@pytest.mark.parametrize("role", ROLES, indirect=True)
async def test_killed_while_nobody_drives(cli: dict[str, Any], provider: str, role: str) -> None:
    cli["options"]["can_use_tool"] = allow
    with anyio.fail_after(LIMIT):
        async with HostedAgent(**cli) as agent:
            await begin_a_turn(agent)
            ref = await agent.detach()
        await kill(role)
        heir = HostedAgent.attach(ref, options={"can_use_tool": allow}, limits=LIMITS)
        with pytest.raises(TOLD[role]):
            async with heir:
                await read_to_the_end(heir)
        await nothing_is_left(provider)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("role", ROLES, indirect=True)
async def test_killed_while_it_is_detached(cli: dict[str, Any], provider: str, role: str, seed: int) -> None:
    cli["options"]["can_use_tool"] = allow
    may_be_told = contextlib.suppress(AgentHostError, claude_agent_sdk.ClaudeSDKError)
    with anyio.fail_after(LIMIT):
        agent = HostedAgent(**cli)
        await agent.connect()
        await begin_a_turn(agent)
        ref: AgentRef | None = None
        with victims.killer(role, moment(role, seed, "detach", most=0.05)) as killed, may_be_told:
            ref = await agent.detach()
        assert killed.is_set()
        with may_be_told:
            await agent.disconnect()
        if ref is not None:
            heir = HostedAgent.attach(ref, options={"can_use_tool": allow}, limits=LIMITS)
            with pytest.raises(TOLD[role]):
                async with heir:
                    await read_to_the_end(heir)
        await nothing_is_left(provider)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("role", ROLES, indirect=True)
async def test_killed_while_the_agent_is_closed(
    cli: dict[str, Any], provider: str, role: str, seed: int
) -> None:
    cli["options"]["can_use_tool"] = allow
    with anyio.fail_after(LIMIT):
        agent = HostedAgent(**cli)
        await agent.connect()
        await begin_a_turn(agent)
        # It may be told, it need not: nothing is wanted of the agent any more.
        may_be_told = contextlib.suppress(AgentHostError, claude_agent_sdk.ClaudeSDKError)
        with victims.killer(role, moment(role, seed, most=0.3)), may_be_told:
            await agent.disconnect()
        await nothing_is_left(provider)
