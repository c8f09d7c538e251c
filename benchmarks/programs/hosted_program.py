"""The same program hosted: the sandbox starts while the SDK is imported."""

from __future__ import annotations

import asyncio

import agenthost

agenthost.prewarm(provider="local")

from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions  # noqa: E402 - the sandbox starts first


async def main() -> None:
    """Ask once."""
    options = ClaudeAgentOptions(setting_sources=[], max_turns=20, max_buffer_size=64 * 1024 * 1024)
    async with agenthost.HostedAgent(options, provider="local") as agent:
        await agent.query("hi")
        async for message in agent.receive_response():
            if isinstance(message, AssistantMessage):
                print("first", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
