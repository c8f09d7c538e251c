"""A process that forks: the child owns nothing of what its parent has made."""

from __future__ import annotations

import json
import os
from pathlib import Path

import anyio
from support.hosting import sandboxes_of
from support.preloaded import run_preloaded, run_to_end

from agenthost import reap
from agenthost.testing import FakeCLI

LIMIT = 120
PLAIN = "local-unisolated"

WORKERS = """
import json, os, sys, anyio, agenthost

async def work():
    async with agenthost.HostedAgent({"cli_path": sys.argv[1]}, provider="local-unisolated") as agent:
        await agent.query("hi")
        async for _ in agent.receive_response():
            pass
        return agent.sandbox.id

warm = agenthost.prewarm("local-unisolated")
warmed = anyio.run(warm.sandbox_id)
children = []
for _ in range(2):
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, anyio.run(work).encode())
        sys.exit(0)
    os.close(writing)
    children.append(reading)
theirs = [os.read(reading, 100).decode() for reading in children]
for _ in children:
    os.wait()
print(json.dumps({"warmed": warmed, "theirs": theirs, "own": anyio.run(work)}))
"""

LEAVES = """
import os, sys, anyio, agenthost

async def main():
    async with agenthost.HostedAgent({"cli_path": sys.argv[1]}, provider="local-unisolated") as agent:
        if (child := os.fork()) == 0:
            sys.exit(0)  # runs what the program's end runs
        os.waitpid(child, 0)
        await agent.query("still there?")
        print([type(message).__name__ async for message in agent.receive_response()][-1])

anyio.run(main)
"""

DIES = """
import os, sys, anyio, agenthost

async def main():
    async with agenthost.open_provider("local-unisolated") as provider:
        sandbox = await provider.create(agenthost.SandboxSpec())
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            os.close(writing)
            os.read(reading, 1)  # lives until its parent is gone
            os.read(0, 1)
            os._exit(0)
        print(sandbox.id, child, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


def cli(directory: Path) -> str:
    return FakeCLI().write(directory / "claude")


async def test_each_worker_of_a_program_that_has_prewarmed_makes_a_sandbox_of_its_own(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        env = {**os.environ, "ANTHROPIC_API_KEY": "sk-ant-of-the-host"}
        done = await run_to_end(["python", "-c", WORKERS, cli(tmp_path)], env=env)
        assert done.exit_code == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["own"] == told["warmed"]
        assert len({told["own"], *told["theirs"]}) == 3
        assert await sandboxes_of(PLAIN) == []


async def test_the_end_of_a_child_ends_nothing_of_its_parent(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        env = {**os.environ, "ANTHROPIC_API_KEY": "sk-ant-of-the-host"}
        done = await run_to_end(["python", "-c", LEAVES, cli(tmp_path)], env=env)
        assert (done.exit_code, done.stdout) == (0, "ResultMessage\n"), done.stderr
        assert await sandboxes_of(PLAIN) == []


async def test_a_host_that_was_killed_is_dead_although_a_child_lives() -> None:
    with anyio.fail_after(LIMIT):
        async with run_preloaded(["python", "-c", DIES], env=os.environ, stderr=None) as host:
            sandbox, child = (await host.line()).split()
            host.kill()
            await host.wait()
            os.kill(int(child), 0)  # it lives
            found = await reap(PLAIN)
            assert [(one.info.id, one.outcome) for one in found] == [(sandbox, "reaped")]
        assert await sandboxes_of(PLAIN) == []
