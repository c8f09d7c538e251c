"""A program that makes a sandbox with an agent in it and uses it, to be killed at any moment.

    python -m support.reapable_host PROVIDER IMAGE

IMAGE may be empty. Prints one word at each stage.
"""

from __future__ import annotations

import sys

import anyio

from agenthost import HostedAgent, SandboxSpec
from agenthost.testing import FakeCLI


def tell(word: str) -> None:
    """Tell, whole or not at all."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def main(provider: str, image: str) -> None:
    """Host an agent, hand it on, take it over again, leave."""
    options = {"cli_path": "/workspace/claude", "include_partial_messages": True}
    spec = SandboxSpec(image=image or None, max_lifetime=600)
    tell("begin")
    async with HostedAgent(options, provider=provider, spec=spec, workspace=".") as agent:
        tell("ready")
        await agent.query(
            FakeCLI.prompt(FakeCLI.partials(300), FakeCLI.spawn("sleep", "54321"), FakeCLI.stall())
        )
        seen = 0
        async for _ in agent.receive_messages():
            seen += 1
            if seen == 100:
                tell("turn")
            if seen == 200:
                break
        tell("leaving")
    tell("end")


anyio.run(main, sys.argv[1], sys.argv[2])
