"""A program that hosts an agent and tells where it is, one line of JSON after the other, to be killed.

python mortal_host.py BACKEND LIFETIME CLI_PATH WORKSPACE PROMPT [detach]
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import anyio
from claude_agent_sdk import PermissionResultAllow, ResultMessage

from agenthost import HostedAgent, SandboxSpec
from agenthost.testing import FakeCLI


def tell(**what: Any) -> None:
    """Tell, whole or not at all."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def decide(*_: object) -> PermissionResultAllow:
    """Never come to a decision."""
    tell(at="callback")
    await anyio.sleep_forever()
    raise AssertionError


async def main(lifetime: float, cli_path: str, workspace: str, prompt: str, how: str = "") -> None:
    """Host an agent for one turn, and then another half, and end it or leave it running."""
    options = {"cli_path": cli_path, "include_partial_messages": True, "can_use_tool": decide}
    async with HostedAgent(
        options,
        provider="local",
        spec=SandboxSpec(max_lifetime=lifetime),
        workspace=workspace,
        on_progress=lambda step: tell(at=step.stage, text=step.message),
    ) as agent:
        await agent.query(prompt)
        async for message in agent.receive_messages():
            ref = agent.ref.to_json()
            tell(at="turn", number=FakeCLI.number(message), ref=ref, cursor=str(agent.cursor))
            if isinstance(message, ResultMessage):
                break
        await agent.query(prompt)
        if how:
            tell(at="detaching")
            await agent.detach()
            tell(at="detached")
        tell(at="closing")


backend, seconds, *rest = sys.argv[1:]
cli, folder, said, *leave = rest
anyio.run(partial(main, float(seconds), cli, folder, said, *leave), backend=backend)
