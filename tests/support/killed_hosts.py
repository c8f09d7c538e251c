"""Hosts of agents that are killed at moments which a seed chooses."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import anyio
from support.hosting import KEY

from agenthost.testing import FakeCLI

AT_ONCE = 4
STAGES = ("", "begin", "ready", "turn", "leaving", "end")
TESTS = Path(__file__).parents[1]


async def kill_host(seed: int, provider: str, workspace: Path, image: str = "") -> str:
    """Start a host and kill it at a moment that the seed chooses. Returns what it had told by then."""
    chance = random.Random(seed)
    stage, moment = chance.choice(STAGES), chance.uniform(0, 0.5)
    env = {**os.environ, "PYTHONPATH": str(TESTS), "ANTHROPIC_API_KEY": KEY}
    argv = [sys.executable, "-m", "support.reapable_host", provider, image]
    told = b""
    async with await anyio.open_process(argv, stderr=None, cwd=workspace, env=env) as host:
        assert host.stdout is not None
        try:
            while stage and stage.encode() not in told.split():
                told += await host.stdout.receive()
        except anyio.EndOfStream:
            pass  # it has come to its end before
        with anyio.move_on_after(moment):
            await host.wait()
        if host.returncode is None:
            host.kill()
        await host.wait()
    return told.decode()


async def kill_hosts(count: int, provider: str, workspace: Path, image: str = "") -> None:
    """Kill so many, several at a time."""
    (workspace / "claude").write_bytes(FakeCLI().source())
    (workspace / "claude").chmod(0o755)
    slots = anyio.CapacityLimiter(AT_ONCE)

    async def one(seed: int) -> None:
        async with slots:
            await kill_host(seed, provider, workspace, image)

    async with anyio.create_task_group() as tasks:
        for seed in range(count):
            tasks.start_soon(one, seed)
