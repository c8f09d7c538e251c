"""A fresh program with the bare SDK: tells when the first assistant message is there."""

from __future__ import annotations

import asyncio

from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, ClaudeSDKClient


async def main() -> None:
    """Ask once."""
    options = ClaudeAgentOptions(setting_sources=[], max_turns=20, max_buffer_size=64 * 1024 * 1024)
    async with ClaudeSDKClient(options) as client:
        await client.query("hi")
        async for message in client.receive_response():
            if isinstance(message, AssistantMessage):
                print("first", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
