"""A host that reads nothing while its agent floods it, and then everything.

    python -m agent.stalled_reader BACKEND RECORD [HIGH_WATER]

RECORD is where the agent's CLI tells that all has gone out; the CLI lies beside it. HIGH_WATER replaces the
bytes of messages that the host keeps unread. Prints one line of JSON: MiB that it grew by while it did not
read, MiB in all, and the numbers that were missing or out of order.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import anyio
from claude_agent_sdk import StreamEvent
from support.runner_process import wait_for_file

import agenthost.agent.journal
from agenthost import HostedAgent
from agenthost.testing import FakeCLI

EVENTS, SIZE = 2_000, 50_000


def resident() -> float:
    """Return MiB in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def peak() -> float:
    """Return MiB in memory at the worst moment so far.

    Of this program alone: ``ru_maxrss`` begins with the peak of the process that started it.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024


async def main(record: Path) -> None:
    """Host the agent."""
    wrong: list[int] = []
    cli = FakeCLI([FakeCLI.partials(EVENTS, SIZE), FakeCLI.report(record)])
    options = {"cli_path": cli.write(record.with_name("claude")), "include_partial_messages": True}
    async with HostedAgent(options, provider="local-unisolated") as agent:
        before = resident()
        await agent.query("go")
        await wait_for_file(record)
        # What can come has come: these answers travel behind it on the same link.
        for _ in range(20):
            await agent.sandbox.exec(["true"])
        stalled = peak() - before
        expected = 0
        async for message in agent.receive_response():
            if isinstance(message, StreamEvent):
                number = int(message.event["delta"]["text"].split()[0])
                if number != expected:
                    wrong.append(expected)
                expected = number + 1
        told = {"stalled": stalled, "in_all": peak() - before, "wrong": wrong, "events": expected}
        sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    if len(sys.argv) > 3:
        setattr(agenthost.agent.journal, "_HIGH_WATER", int(sys.argv[3]))  # noqa: B010 - private, on purpose
    anyio.run(main, Path(sys.argv[2]), backend=sys.argv[1])
