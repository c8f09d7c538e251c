"""An agent that is cancelled at any await of its caller, or at any turn of the loop, leaves nothing."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from support.cancelling import cancelled_after, cancelled_at
from support.many_agents import LightProvider

from agenthost import HostedAgent

LIMIT = 240


async def use(provider: LightProvider) -> None:
    """Start an agent, have one turn, end it."""
    async with HostedAgent({}, provider=provider) as agent:
        await agent.query("3")
        async for _ in agent.receive_response():
            pass


async def nothing_is_left(provider: LightProvider) -> None:
    assert [info.name async for info in provider.list()] == []


async def test_at_every_await_of_the_caller(tmp_path: Path) -> None:
    waits = 1
    with anyio.fail_after(LIMIT):
        async with LightProvider(state_dir=str(tmp_path)) as provider:
            while await cancelled_at(waits, lambda: use(provider)):
                await nothing_is_left(provider)
                waits += 1
    assert waits > 4


async def test_at_any_turn_of_the_loop(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    # Ever farther apart, in the long run by less.
    share, least = (12, 20) if pytestconfig.getoption("--full") else (3, 8)
    with anyio.fail_after(LIMIT):
        async with LightProvider(state_dir=str(tmp_path)) as provider:
            moments, turns = 0, 0
            while await cancelled_after(turns, lambda: use(provider)):
                await nothing_is_left(provider)
                moments, turns = moments + 1, turns + 1 + turns // share
    assert moments > least
