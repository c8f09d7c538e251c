"""A program that makes a sandbox with an agent in it and uses it, to be killed at any moment.

    python reapable_host.py PROVIDER [STAGE]

Prints one word at each stage. At STAGE it waits to be killed.
"""

from __future__ import annotations

import sys

import anyio

from agenthost import HostedAgent, SandboxSpec
from agenthost.testing import FakeCLI

PROMPT = FakeCLI.prompt(FakeCLI.partials(300), FakeCLI.spawn("sleep", "54321"), FakeCLI.stall())


async def main(provider: str, last: str) -> None:
    """Host an agent for half a turn, and leave it."""

    async def reach(stage: str) -> None:
        sys.stdout.write(f"{stage}\n")
        sys.stdout.flush()
        if stage == last:
            await anyio.sleep_forever()

    options = {"cli_path": "/workspace/claude", "include_partial_messages": True}
    await reach("begin")
    async with HostedAgent(
        options, provider=provider, spec=SandboxSpec(max_lifetime=600), workspace="."
    ) as agent:
        await reach("ready")
        await agent.query(PROMPT)
        seen = 0
        async for _ in agent.receive_messages():
            seen += 1
            if seen == 100:
                await reach("turn")
            if seen == 200:
                break
        await reach("leaving")
    await reach("end")


anyio.run(main, sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")
