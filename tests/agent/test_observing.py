"""What somebody who only reads can tell of an agent: from the guest's word on it, and from its journal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
from claude_agent_sdk import ClaudeAgentOptions
from support.hosting import allow

from agenthost import HostedAgent, open_provider
from agenthost.agent.credentials import Credentials
from agenthost.link.client import GuestSandbox
from agenthost.testing import FakeCLI

LIMIT = 60
PLAIN = "local-unisolated"


async def events(sandbox: GuestSandbox, agent: str, size: int) -> list[dict[str, Any]]:
    """Return the events in the first bytes of a journal."""
    data = b""
    async with sandbox.observe_agent(agent, after=0) as journal:
        while len(data) < size:
            data += await journal.receive()
    return [json.loads(line) for line in data.splitlines()]


async def test_an_answered_question_is_told_in_the_journal(tmp_path: Path) -> None:
    cli = FakeCLI([FakeCLI.tool("Bash", {"command": "ls"}, ask=True)]).write(tmp_path / "claude")
    options = ClaudeAgentOptions(cli_path=cli, can_use_tool=allow)
    with anyio.fail_after(LIMIT):
        async with HostedAgent(options, provider=PLAIN) as agent, open_provider(PLAIN) as provider:
            await agent.query("go")
            async for _ in agent.receive_response():
                pass
            other = await provider.get(agent.sandbox.id)
            assert isinstance(other, GuestSandbox)
            (status,) = await other.agents()
            told = await events(other, status.agent, status.journal_end)
    story = [(one["kind"], one["id"]) for one in told if one["kind"] in ("request", "answered")]
    assert story == [("request", 1), ("answered", 1)]


async def test_the_guest_tells_who_asks_the_model_over_the_link_and_how_long_it_is_kept(
    tmp_path: Path,
) -> None:
    options = {"cli_path": FakeCLI().write(tmp_path / "claude")}
    with anyio.fail_after(LIMIT):
        async with open_provider(PLAIN) as provider:
            ways: list[tuple[Credentials, bool]] = [("host", True), ("env", False)]
            for credentials, model in ways:
                async with HostedAgent(options, provider=PLAIN, credentials=credentials) as agent:
                    other = await provider.get(agent.sandbox.id)
                    assert isinstance(other, GuestSandbox)
                    (status,) = await other.agents()
                    assert (status.model, status.driven) == (model, True)
                    assert await other.kept_for() is None
                    ref = await agent.detach(keep_for=600)
                kept = await other.kept_for()
                assert kept is not None
                assert 0 < kept <= 600
                async with HostedAgent.attach(ref):
                    pass
