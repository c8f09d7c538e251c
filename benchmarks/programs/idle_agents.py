"""Print how many MiB of the host one idle agent takes, on average of many."""

from __future__ import annotations

import gc
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import claude_agent_sdk

from agenthost import HostedAgent, SandboxSpec

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from support.many_agents import LightProvider

_WARM_UP = 10


def _resident() -> float:
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this kernel tells no VmRSS")


async def _connect(agents: list[HostedAgent], stack: AsyncExitStack) -> None:
    async with anyio.create_task_group() as tasks:
        for agent in agents:
            stack.push_async_callback(agent.disconnect)
            tasks.start_soon(agent.connect)


async def main(count: int) -> None:
    """Connect some, then ``count`` more, and look what those took."""
    assert claude_agent_sdk
    with tempfile.TemporaryDirectory() as state:
        async with LightProvider(state_dir=state) as provider, AsyncExitStack() as stack:
            sandbox = await provider.create(SandboxSpec())
            stack.push_async_callback(sandbox.terminate)
            await _connect([HostedAgent({}, sandbox=sandbox) for _ in range(_WARM_UP)], stack)
            before = _resident()
            await _connect([HostedAgent({}, sandbox=sandbox) for _ in range(count)], stack)
            print((_resident() - before) / count)


anyio.run(main, int(sys.argv[1]))
