"""A hosted agent at Cloudflare: the real CLI and a scripted model, through the Worker."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from claude_agent_sdk import ClaudeAgentOptions, Message
from support.hosting import KEY, scripted
from support.messages import results, texts

from agenthost import HostedAgent
from agenthost.providers.cloudflare.provider import CloudflareProvider
from agenthost.testing import Text, ToolUse
from agenthost.testing.emulators.cloudflare import emulator

LIMIT = 180
OPTIONS = ClaudeAgentOptions(permission_mode="bypassPermissions", max_turns=5)
SCRIPT = (ToolUse("Bash", {"command": "id -un; env"}), Text("It is done."))


@pytest.mark.full
async def test_an_agent_works_through_a_worker_whose_streams_break_and_sees_no_key(
    cloudflare_site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    said = ""
    with anyio.fail_after(LIMIT):
        async with emulator(site=cloudflare_site) as cloudflare:
            async with (
                scripted(monkeypatch, *SCRIPT),
                CloudflareProvider(**cloudflare.options) as provider,
                HostedAgent(OPTIONS, provider=provider) as agent,
            ):
                await agent.query("Who are you?")
                messages: list[Message] = []
                async for message in agent.receive_response():
                    messages.append(message)
                    cloudflare.cut()
                assert texts(messages) == ["It is done."]
                (said,) = results(messages)
            assert cloudflare.running() == []
            assert cloudflare.options["api_key"] not in said
    assert said.startswith("root\n")
    assert KEY not in said
