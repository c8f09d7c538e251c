"""A host that is cut off while it decides does not go on with what has been decided without it."""

from __future__ import annotations

from pathlib import Path

import anyio
from claude_agent_sdk import PermissionResultAllow, ResultMessage, ToolResultBlock, UserMessage
from faults.fault_world import KEY, LIMIT, short_provider

from agenthost import HostedAgent, Limits
from agenthost.testing import FakeCLI, LinkFaults


async def test_a_callback_ends_when_its_decision_was_denied_while_the_link_was_down(tmp_path: Path) -> None:
    faults = LinkFaults()
    told, cancelled = anyio.Event(), anyio.Event()

    async def decide(*_: object) -> PermissionResultAllow:
        told.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()
        raise AssertionError

    (tmp_path / "claude").write_bytes(FakeCLI().source())
    (tmp_path / "claude").chmod(0o755)
    options = {
        "cli_path": "/workspace/claude",
        "can_use_tool": decide,
        "env": {"ANTHROPIC_API_KEY": KEY},
    }
    limits = Limits(start=LIMIT, link_budget=LIMIT, decision_wait=0.05)
    with anyio.fail_after(LIMIT):
        async with (
            faults,
            faults.around(short_provider(limits)) as provider,
            HostedAgent(options, provider=provider, workspace=tmp_path, limits=limits) as agent,
        ):
            await agent.query(FakeCLI.prompt(FakeCLI.tool("Bash", ask=True)))
            await told.wait()
            faults.isolate()
            async with HostedAgent.attach(agent.ref, role="observer") as observer:
                async for message in observer.receive_messages():
                    if isinstance(message, UserMessage) and isinstance(message.content, list):
                        assert isinstance(message.content[0], ToolResultBlock)
                        assert message.content[0].is_error
                        break
            assert not cancelled.is_set()
            faults.heal()
            await cancelled.wait()
            messages = [message async for message in agent.receive_response()]
            assert isinstance(messages[-1], ResultMessage)
