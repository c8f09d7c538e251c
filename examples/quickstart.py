"""An agent works on a copy of a directory, in a sandbox on this machine.

    export ANTHROPIC_API_KEY=...
    python examples/quickstart.py ./app ./fixed "Fix the failing test"

The copy goes in, the result comes out to the second directory; ./app itself is not touched.
"""

from __future__ import annotations

import sys

import anyio
from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, ResultMessage, TextBlock, ToolUseBlock

from agenthost import HostedAgent


async def main(workspace: str, target: str, prompt: str) -> None:
    """Run one prompt."""
    # Nothing the agent does reaches beyond its sandbox, so it need not ask.
    options = ClaudeAgentOptions(permission_mode="bypassPermissions", max_turns=20)
    async with HostedAgent(options, provider="local", workspace=workspace) as agent:
        await agent.query(prompt)
        async for message in agent.receive_response():
            if isinstance(message, AssistantMessage):
                for block in message.content:
                    if isinstance(block, TextBlock):
                        print(block.text)
                    elif isinstance(block, ToolUseBlock):
                        print(f"[{block.name}]")
            elif isinstance(message, ResultMessage):
                print(f"{message.subtype} after {message.num_turns} turns")
        files = await agent.download(target)
        print(f"{files.files} files in {target}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
