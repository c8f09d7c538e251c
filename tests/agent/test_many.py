"""Many agents at once: in one sandbox, and on one host."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.deep_runs import count_of
from support.many_agents import LightProvider

from agenthost import HostedAgent, SandboxSpec, open_provider
from agenthost.testing import FakeCLI

LIMIT = 240


async def test_agents_in_one_sandbox_each_hear_their_own_answers(pytestconfig: pytest.Config) -> None:
    count = count_of(pytestconfig, "agents", normal=4, full=8)
    cli = FakeCLI()
    heard: dict[int, list[Any]] = {}

    async def work(agent: HostedAgent, number: int) -> None:
        await agent.query(FakeCLI.prompt(FakeCLI.partials(50), FakeCLI.text(f"agent {number}")))
        heard[number] = [message async for message in agent.receive_response()]

    with anyio.fail_after(LIMIT):
        async with open_provider("local-unisolated") as provider:
            sandbox = await provider.create(SandboxSpec())
            path = await cli.put(sandbox)
            options = {"cli_path": path, "include_partial_messages": True}
            async with AsyncExitStack() as stack:
                agents = [HostedAgent(options, sandbox=sandbox) for _ in range(count)]
                # Two at once: a runner's start takes half a second of a core.
                limiter = anyio.CapacityLimiter(2)

                async def connect(agent: HostedAgent) -> None:
                    async with limiter:
                        await agent.connect()

                async with anyio.create_task_group() as tasks:
                    for agent in agents:
                        stack.push_async_callback(agent.disconnect)
                        tasks.start_soon(connect, agent)
                async with anyio.create_task_group() as tasks:
                    for number, agent in enumerate(agents):
                        tasks.start_soon(work, agent, number)
            await sandbox.terminate()
    for number, messages in heard.items():
        numbers = [FakeCLI.number(message) for message in messages]
        assert numbers == list(range(1, len(numbers) + 1))
        assert f"agent {number}" in str(messages)
    assert len(heard) == count


async def test_many_agents_on_one_host_lose_nothing(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    wanted = 200
    count = count_of(pytestconfig, "agents", normal=40, full=40)
    heard: list[list[str]] = []

    async def work(agent: HostedAgent) -> None:
        await agent.query(str(wanted))
        messages: list[Any] = [message async for message in agent.receive_response()]
        heard.append([message.uuid for message in messages[:-1]] + [messages[-1].result])

    with anyio.fail_after(LIMIT):
        async with LightProvider(state_dir=str(tmp_path)) as provider, AsyncExitStack() as stack:
            sandboxes = [await provider.create(SandboxSpec()) for _ in range(4)]
            agents = [HostedAgent({}, sandbox=sandboxes[number % 4]) for number in range(count)]
            async with anyio.create_task_group() as tasks:
                for agent in agents:
                    stack.push_async_callback(agent.disconnect)
                    tasks.start_soon(agent.connect)
            async with anyio.create_task_group() as tasks:
                for agent in agents:
                    tasks.start_soon(work, agent)
            async with anyio.create_task_group() as tasks:
                for agent in agents:
                    tasks.start_soon(agent.disconnect)
            for sandbox in sandboxes:
                await sandbox.terminate()
    assert heard == [[*map(str, range(wanted)), str(wanted)]] * count
