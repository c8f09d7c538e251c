"""A disk that is full under the journal, and clocks that jump: the agent waits, or does not even notice."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from guest.plain_guest import plain_guest
from support.hosting import allow, scripted

from agenthost import HostedAgent
from agenthost.link.client import GuestSandbox
from agenthost.testing import FakeCLI, Text

LIMIT = 120
MIB = 1024 * 1024
QUIET = 1.0  # seconds without growth until a journal is taken to stand still

# Every look at the wall clock sees another year. What measures time must not look at it.
JUMPING = """\
import itertools, runpy, sys, time
YEAR = 365 * 24 * 3600.0
years, now, now_ns = itertools.cycle((0, 30, -20, 7)), time.time, time.time_ns
time.time = lambda: now() + next(years) * YEAR
time.time_ns = lambda: now_ns() + int(next(years) * YEAR) * 10**9
while sys.argv[1].startswith("-"):
    del sys.argv[1]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


async def journal_size(sandbox: GuestSandbox) -> int:
    (status,) = await sandbox.agents()
    return status.journal_end


async def stands_still(sandbox: GuestSandbox, more_than: int) -> int:
    """Return a journal's size when it is that large and grows no more."""
    size = -1
    while (now := await journal_size(sandbox)) != size or now < more_than:
        size = now
        await anyio.sleep(QUIET)
    return size


async def test_a_full_disk_under_the_journal_stops_the_agent_and_loses_nothing(tmp_path: Path) -> None:
    """No file of the guest may have more than 4 MiB, and nobody reads: the journal is such a file."""
    wrapper = ["sh", "-c", 'ulimit -f 8192; exec "$@"', "sh"]
    fake = FakeCLI([FakeCLI.partials(30_000, size=1000), FakeCLI.text("Through.")], [FakeCLI.text("More.")])
    options = {"cli_path": fake.write(tmp_path / "claude"), "include_partial_messages": True}
    numbers: list[int | None] = []
    with anyio.fail_after(LIMIT):
        async with (
            plain_guest(sys.executable, tmp_path, wrapper=wrapper) as sandbox,
            HostedAgent(options, sandbox=sandbox) as agent,
        ):
            await agent.query("go")
            # What nobody has acknowledged is kept: what fits into the file, and a last piece in memory.
            assert await stands_still(sandbox, 4 * MIB) < 6 * MIB, "the disk was not full"
            assert (await sandbox.exec(["echo", "served"])).stdout == b"served\n"
            for _ in range(2):
                async for message in agent.receive_response():
                    numbers.append(FakeCLI.number(message))  # noqa: PERF401 - with a condition below
                if len(numbers) > 30_000:
                    await agent.query("more")
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == 30_000 + 3 + 3


async def test_clocks_that_jump_inside_and_outside_are_not_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jumping.py").write_text(JUMPING)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/jumping.py "$@"\n')
    python.chmod(0o755)
    years, now = iter(range(10**9)), time.time
    monkeypatch.setattr(time, "time", lambda: now() + (next(years) * 7 % 50 - 20) * 365 * 24 * 3600.0)
    turns = [FakeCLI.partials(500), FakeCLI.tool("Bash", ask=True), FakeCLI.model()]
    fake = FakeCLI(turns, turns)
    options: dict[str, Any] = {"cli_path": fake.write(tmp_path / "claude"), "can_use_tool": allow}
    messages: list[Any] = []
    with anyio.fail_after(LIMIT):
        async with (
            scripted(monkeypatch, Text("One."), Text("Two.")),
            plain_guest(str(python), tmp_path) as sandbox,
            HostedAgent({**options, "include_partial_messages": True}, sandbox=sandbox) as agent,
        ):
            clock = await sandbox.exec([str(python), "-c", "unused"])
            assert clock.exit_code != 0  # it runs programs, nothing else
            for prompt in ("1", "2"):
                await agent.query(prompt)
                messages += [message async for message in agent.receive_response()]
            result = await sandbox.exec(["sleep", "0.1"], timeout=30)
            assert result.exit_code == 0
    numbers = [FakeCLI.number(message) for message in messages]
    assert numbers == list(range(1, len(numbers) + 1))
    assert messages[-1].num_turns == 1


def test_what_measures_time_does_not_look_at_the_wall_clock() -> None:
    """The wall clock is for people and for what outlives a process: the times of events, ends, labels."""
    import agenthost

    root = Path(agenthost.__file__).parent
    looks = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if "time.time(" in path.read_text() or "datetime.now" in path.read_text()
    }
    # What is compared with the providers' times, and a fake one, belongs to tests.
    assert {path for path in looks if not path.startswith("testing/")} <= {
        "agent/audit/log.py",  # the time of a record
        "providers/docker/backend.py",  # which of the engine's events are asked for
        "agent/lease.py",  # how long a sandbox still lives, by what its provider says
        "cli/finding.py",
        "cli/ps.py",
        "cli/reap.py",
        "cli/run.py",
        "adapter/provider.py",  # labels of a sandbox
        "owners.py",  # which of two processes has noted something last; the age of records
        "providers/docker/making.py",  # labels of a container
        "providers/docker/one_off.py",
        "adapter/cloud.py",  # what is left until an end that is a label
        "providers/cloudflare/backend.py",  # the end that a lease gets
        "providers/cloudflare/client.py",  # the end that the Worker keeps
        "providers/e2b/client.py",  # what is left until the end that E2B states
        "providers/fly/machine.py",  # the end that the main program of a machine compares with its clock
        "providers/vercel/backend.py",  # what is left until the end that Vercel states
        "providers/vercel/credentials.py",  # the end of an OIDC token
        "providers/vercel/images.py",  # the end of a snapshot
        "providers/local/backend.py",  # ``expires_at``
        "providers/local/engine.py",
        "providers/local/entry.py",  # the age of what a dead process left
        "reaping.py",  # whether an end is over
        "runner/journal.py",  # ``ts`` of an event
    }
