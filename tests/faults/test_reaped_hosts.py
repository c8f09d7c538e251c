"""Hosts are killed at any moment of making, using and ending sandboxes: after reap nothing is left."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import pytest
from support import victims
from support.hosting import KEY

import agenthost
from agenthost import open_provider
from agenthost.testing import FakeCLI

LIMIT = 600.0
AT_ONCE = 4
STAGES = ("", "begin", "ready", "turn", "leaving", "end")
TESTS = Path(__file__).parents[1]
GONE_SECONDS = 20.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The hosts are programs of their own."""
    return "asyncio"


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


@pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.full)])
async def test_after_reap_no_sandbox_process_or_file_of_killed_hosts_is_left(
    tmp_path: Path, count: int
) -> None:
    with anyio.fail_after(LIMIT):
        await kill_hosts(count, "local", tmp_path)
        found = await agenthost.reap("local")
        assert found, "every host had ended before it was killed"
        assert [one for one in found if one.outcome != "reaped"] == []
        assert await agenthost.reap("local") == []
        async with open_provider("local") as provider:
            assert [info.id async for info in provider.list()] == []
    assert await anyio.to_thread.run_sync(victims.left_after, GONE_SECONDS) == []
    assert os.listdir(os.path.join(os.environ["AGENTHOST_STATE_DIR"], "local")) == []
