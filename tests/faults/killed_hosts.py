"""Hosts of agents that are killed at moments which a seed chooses."""

from __future__ import annotations

import os
import random
from pathlib import Path

import anyio
from support.hosting import KEY
from support.preloaded import run_preloaded

import agenthost
from agenthost import Reaped, SandboxProvider
from agenthost.testing import FakeCLI

AT_ONCE = 4
STAGES = ("", "begin", "ready", "turn", "leaving", "end")
_LOOK_AGAIN = 0.1  # seconds; a guest hears of the end of its host a moment later
PROGRAM = Path(__file__).with_name("reapable_host.py")


async def kill_host(seed: int, provider: str, workspace: Path, *, most: float) -> str:
    """Start a host, kill it up to ``most`` seconds after a stage that the seed names. Return what it told."""
    chance = random.Random(seed)
    stage, moment = chance.choice(STAGES), chance.uniform(0, most)
    env = {**os.environ, "ANTHROPIC_API_KEY": KEY}
    argv = ["python", str(PROGRAM), provider]
    if chance.random() < 0.5:
        argv.append(stage)  # it is there still, however fast this machine is
    told = b""
    async with run_preloaded(argv, stderr=None, cwd=workspace, env=env) as host:
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


async def kill_hosts(count: int, provider: str, workspace: Path, *, most: float) -> None:
    """Kill so many, several at a time.

    Args:
        count: How many.
        provider: Whose sandboxes they make.
        workspace: A directory for them.
        most: Seconds after a stage, at most; about as long as making a sandbox takes.
    """
    (workspace / "claude").write_bytes(FakeCLI().source())
    (workspace / "claude").chmod(0o755)
    slots = anyio.CapacityLimiter(AT_ONCE)

    async def one(seed: int) -> None:
        async with slots:
            await kill_host(seed, provider, workspace, most=most)

    async with anyio.create_task_group() as tasks:
        for seed in range(count):
            tasks.start_soon(one, seed)


async def reap_all(provider: SandboxProvider) -> list[Reaped]:
    """Reap until no guest believes any more that its host is there; return what was told of each sandbox."""
    told: dict[str, Reaped] = {}
    while True:
        found = await agenthost.reap(provider)
        told.update((one.info.id, one) for one in found)
        if not any("driver" in one.reason for one in found):
            return list(told.values())
        await anyio.sleep(_LOOK_AGAIN)
