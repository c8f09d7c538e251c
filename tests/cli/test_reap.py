"""``agenthost reap``: what has lost its owner ends, and what is kept is told."""

from __future__ import annotations

import json

from support.command_line import run_agenthost
from support.preloaded import run_to_end

from agenthost import SandboxSpec, open_provider

PLAIN = "local-unisolated"
MAKER = """
import sys, anyio, agenthost

async def main():
    async with agenthost.open_provider(sys.argv[1]) as provider:
        print((await provider.create(agenthost.SandboxSpec())).name)

anyio.run(main)
"""


async def test_a_dry_run_tells_and_the_real_one_ends() -> None:
    async with open_provider(PLAIN) as provider:
        mine = await provider.create(SandboxSpec())
        orphan = (await run_to_end(["python", "-c", MAKER, PLAIN])).stdout.strip()

        dry = await run_agenthost("reap", "--provider", PLAIN, "--dry-run")
        assert dry.exit_code == 0
        heads, *lines = dry.stdout.splitlines()
        assert heads.split() == ["PROVIDER", "SANDBOX", "AGE", "OUTCOME", "WHY"]
        assert any(orphan in line and "would be reaped  its owner has ended" in line for line in lines)
        assert any(mine.name in line and "kept" in line and "its owner lives" in line for line in lines)
        assert {info.name async for info in provider.list()} == {orphan, mine.name}

        done = await run_agenthost("reap", "--json")
        assert done.exit_code == 0
        told = {
            line["name"]: (line["outcome"], line["reason"])
            for line in map(json.loads, done.stdout.splitlines())
        }
        assert told == {orphan: ("reaped", "its owner has ended"), mine.name: ("kept", "its owner lives")}
        assert [info.name async for info in provider.list()] == [mine.name]
        await mine.terminate()
    assert (await run_agenthost("reap", "--provider", PLAIN)).stdout == "there is no sandbox\n"
    assert (await run_agenthost("reap", "--provider", "nope")).exit_code == 2
