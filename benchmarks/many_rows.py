"""Many agents on one host, a long journal read again, and what an event costs each process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
from agent_rows import environment, model_server, options
from claude_agent_sdk import ClaudeSDKClient, StreamEvent
from measure import Row
from processes import processor_seconds

from agenthost import HostedAgent, SandboxSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.many_agents import LightProvider

_PROGRAMS = Path(__file__).parent / "programs"
_AGENTS = 100
_STREAMS = 200
_EACH = 500
_REPLAYED = 10_000
_DELTAS = 20_000


async def rows() -> AsyncIterator[Row]:
    """Measure all."""
    with model_server() as url, tempfile.TemporaryDirectory() as home, environment(url, home):
        yield await _idle()
        yield await _streams()
        yield await _replay()
        async for row in _costs():
            yield row


async def _idle() -> Row:
    argv = [sys.executable, str(_PROGRAMS / "idle_agents.py"), str(_AGENTS)]
    done = await anyio.run_process(argv, stderr=subprocess.STDOUT)
    return _row("an idle agent, on the host", "MiB", float(done.stdout.split()[-1]), 1.0)


async def _streams() -> Row:
    """Events of 200 agents at once, in events/s; fails when one is lost or out of order."""
    expected = [str(number) for number in range(_EACH)]

    async def work(agent: HostedAgent) -> None:
        await agent.query(str(_EACH))
        heard = [m.uuid async for m in agent.receive_response() if isinstance(m, StreamEvent)]
        if heard != expected:
            raise RuntimeError(f"lost or out of order: {len(heard)} of {_EACH} events")

    with tempfile.TemporaryDirectory() as state:
        async with LightProvider(state_dir=state) as provider, AsyncExitStack() as stack:
            sandboxes = [await provider.create(SandboxSpec()) for _ in range(4)]
            agents = [HostedAgent({}, sandbox=sandboxes[number % 4]) for number in range(_STREAMS)]
            async with anyio.create_task_group() as tasks:
                for agent in agents:
                    stack.push_async_callback(agent.disconnect)
                    tasks.start_soon(agent.connect)
            begin = time.perf_counter()
            async with anyio.create_task_group() as tasks:
                for agent in agents:
                    tasks.start_soon(work, agent)
            seconds = time.perf_counter() - begin
            for sandbox in sandboxes:
                await sandbox.terminate()
    name = f"{_STREAMS} agents streaming at once, none lost"
    return _row(name, "events/s", _STREAMS * _EACH / seconds, None, higher_is_better=True)


async def _replay() -> Row:
    """Attach to an agent with a long journal and read all of it again."""
    with tempfile.TemporaryDirectory() as state:
        async with LightProvider(state_dir=state) as provider:
            sandbox = await provider.create(SandboxSpec())
            async with HostedAgent({}, sandbox=sandbox) as agent:
                start = agent.ref
                await agent.query(str(_REPLAYED))
                async for _ in agent.receive_response():
                    pass
                begin = time.perf_counter()
                async with (
                    LightProvider(state_dir=state) as other,
                    HostedAgent.attach(start, role="observer", provider=other) as observer,
                ):
                    count = len([None async for _ in observer.receive_response()])
                    seconds = time.perf_counter() - begin
            await sandbox.terminate()
    if count != _REPLAYED + 1:
        raise RuntimeError(f"{count} of {_REPLAYED + 1} events came again")
    return _row("attach and read 10,000 events again", "s", seconds, 1.0)


async def _costs() -> AsyncIterator[Row]:
    """Processor time of each process for a partial message, beside the same two of the bare SDK."""
    hosted: Any = HostedAgent(options(partial=True), provider="local")
    ours = await _cost_of(hosted)
    bare = await _cost_of(ClaudeSDKClient(options(partial=True)))
    for name in ("host", "guest", "runner", "cli"):
        base = bare[name] if name in ("host", "cli") else None  # the bare SDK has no others
        yield Row(
            group="many",
            name=f"a partial message: the {name}",
            unit="us",
            ours=ours[name] * 1e6 / _DELTAS,
            baseline=None if base is None else base * 1e6 / _DELTAS,
            baseline_name="bare SDK",
            goal=None,
        )


async def _cost_of(client: Any) -> dict[str, float]:
    async with client as agent:
        for prompt in ("hi", f"deltas {_DELTAS}"):  # the first one warms up
            before = processor_seconds()
            await agent.query(prompt)
            async for _ in agent.receive_response():
                pass
            after = processor_seconds()
    return {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}


def _row(name: str, unit: str, ours: float, goal: float | None, *, higher_is_better: bool = False) -> Row:
    return Row(
        group="many",
        name=name,
        unit=unit,
        ours=ours,
        baseline=None,
        baseline_name="",
        goal=goal,
        higher_is_better=higher_is_better,
    )
