"""The same agent anywhere: where it runs is a line of a file, and this program does not know.

    export ANTHROPIC_API_KEY=...
    python examples/anywhere.py agenthost.toml ./app ./changed "Fix the failing test"

With ``provider = "local"`` in agenthost.toml the agent works on this machine; with "cloudflare", "docker",
"daytona", "e2b", "fly", "modal" or "vercel" there. Every message of the SDK is printed as a line of JSON,
the same wherever it comes from.
"""

from __future__ import annotations

import sys

import anyio
from claude_agent_sdk import ClaudeAgentOptions

from agenthost import HostedAgent, message_to_json


async def main(config: str, workspace: str, target: str, prompt: str) -> None:
    """Run one prompt."""
    options = ClaudeAgentOptions(allowed_tools=["Bash", "Read", "Edit", "Write"], max_turns=20)
    async with HostedAgent.from_config(config, options=options, workspace=workspace) as agent:
        await agent.query(prompt)
        async for message in agent.receive_response():
            print(message_to_json(message), flush=True)
        await agent.download(target)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4])
