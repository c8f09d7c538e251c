"""What nobody owns any more is ended; what somebody owns is not."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
from support.hosting import KEY, sandboxes_of
from support.preloaded import Program, run_preloaded, run_to_end

import agenthost
from agenthost import HostedAgent, Reaped, SandboxSpec, open_provider
from agenthost.testing import Text

LIMIT = 120
PLAIN = "local-unisolated"

# Makes a sandbox as a user would, tells its id, and does nothing more.
MAKER = """
import sys, anyio, agenthost

async def main():
    async with agenthost.open_provider(sys.argv[1]) as provider:
        name = sys.argv[2] if len(sys.argv) > 2 else None
        sandbox = await provider.create(agenthost.SandboxSpec(name=name))
        print(sandbox.id, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""
# Makes one and ends it; tells its own name as an owner, and whether that is on record.
MADE_AND_ENDED = """
import os, sys, anyio, agenthost

async def main():
    async with agenthost.open_provider(sys.argv[1]) as provider:
        sandbox = await provider.create(agenthost.SandboxSpec())
        owner = (await sandbox.info()).labels["agenthost-owner"]
        path = os.path.join(os.environ["AGENTHOST_STATE_DIR"], "owners", owner + ".owner")
        print(owner, os.path.exists(path))
        await sandbox.terminate()

anyio.run(main)
"""
# Drives an agent by its ref, tells that it does, and does nothing more.
HEIR = """
import sys, anyio, agenthost

async def main():
    async with agenthost.HostedAgent.attach(sys.argv[1]) as agent:
        print(agent.sandbox.id, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@asynccontextmanager
async def program(text: str, *arguments: str) -> AsyncGenerator[tuple[Program, str]]:
    """Run a program in the block; yields it and the line that it prints."""
    async with run_preloaded(["python", "-c", text, *arguments], env=os.environ, stderr=None) as process:
        try:
            yield process, await process.line()
        finally:
            process.kill()


async def kill(process: Program) -> None:
    process.send_signal(signal.SIGKILL)
    await process.wait()


def outcomes(found: list[Reaped]) -> dict[str, tuple[str, str]]:
    return {one.info.id: (one.outcome, one.reason) for one in found}


async def test_only_what_has_lost_its_owner_is_ended() -> None:
    with anyio.fail_after(LIMIT):
        async with (
            open_provider(PLAIN) as provider,
            program(MAKER, PLAIN) as (dead, orphan),
            program(MAKER, PLAIN) as (_, sibling),
        ):
            mine = await provider.create(SandboxSpec())
            await kill(dead)
            expected = {
                orphan: ("reaped", "its owner has ended"),
                sibling: ("kept", "its owner lives"),
                mine.id: ("kept", "its owner lives"),
            }
            assert outcomes(await agenthost.reap(provider, dry_run=True)) == expected
            assert set(await sandboxes_of(PLAIN)) == set(expected)
            assert outcomes(await agenthost.reap(PLAIN)) == expected
            assert set(await sandboxes_of(PLAIN)) == {sibling, mine.id}
            await mine.terminate()
            await (await provider.get(sibling)).terminate()


async def test_an_agent_that_was_handed_on_is_kept_until_who_took_it_dies(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("One.")):
            async with HostedAgent({}, provider=PLAIN) as agent:
                ref = await agent.detach()
            assert outcomes(await agenthost.reap(PLAIN)) == {
                ref.sandbox: ("kept", "it was handed on, and ends by its own end")
            }
            async with program(HEIR, ref.to_json()) as (heir, _):
                assert outcomes(await agenthost.reap(PLAIN)) == {ref.sandbox: ("kept", "its owner lives")}
                await kill(heir)
            assert outcomes(await agenthost.reap(PLAIN)) == {ref.sandbox: ("reaped", "its owner has ended")}
    assert await sandboxes_of(PLAIN) == []


async def test_an_agent_that_was_taken_from_a_killed_host_and_handed_on_is_kept(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("One.")):
            async with HostedAgent({}, provider=PLAIN) as agent:
                ref = await agent.detach()
            async with program(HEIR, ref.to_json()) as (heir, _):
                await kill(heir)
            async with HostedAgent.attach(ref) as second:
                ref = await second.detach()
            assert outcomes(await agenthost.reap(PLAIN)) == {
                ref.sandbox: ("kept", "it was handed on, and ends by its own end")
            }
            async with HostedAgent.attach(ref):
                pass


async def test_a_name_that_a_dead_owner_used_says_nothing_of_who_has_it_now() -> None:
    with anyio.fail_after(LIMIT):
        async with open_provider(PLAIN) as provider:
            async with program(MAKER, PLAIN, "dev") as (dead, first):
                await (await provider.get(first)).terminate()
                await kill(dead)
            sandbox = await provider.create(SandboxSpec(name="dev"))
            assert outcomes(await agenthost.reap(provider)) == {"dev": ("kept", "its owner lives")}
            await sandbox.terminate()


async def test_a_record_that_was_cut_short_stops_no_reap() -> None:
    with anyio.fail_after(LIMIT):
        async with open_provider(PLAIN) as provider, program(MAKER, PLAIN) as (dead, orphan):
            (record,) = [
                path
                async for path in anyio.Path(os.environ["AGENTHOST_STATE_DIR"], "owners").glob("*.owner")
                if path.name.startswith(f"{dead.pid}-")
            ]
            await kill(dead)
            await record.write_text('{"provider": "local-unis\n[]\n{"sandbox": 3}\n')
            assert outcomes(await agenthost.reap(provider)) == {orphan: ("reaped", "its owner has ended")}


@contextmanager
def hidden_owners(elsewhere: Path) -> Generator[None]:
    """Let the block see sandboxes as another machine does, which knows nothing of their owners."""
    owners = Path(os.environ["AGENTHOST_STATE_DIR"], "owners")
    hidden = [path.rename(elsewhere / path.name) for path in owners.glob("*.owner")]
    try:
        yield
    finally:
        for path in hidden:
            path.rename(owners / path.name)


async def test_an_agent_that_is_driven_is_kept_whoever_made_it(script: Any, tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            script(Text("One.")),
            HostedAgent({}, provider=PLAIN) as agent,
            open_provider(PLAIN) as provider,
        ):
            info = await agent.sandbox.info()
            with hidden_owners(tmp_path):
                assert outcomes(await agenthost.reap(provider)) == {
                    info.id: ("kept", "its owner is not known here")
                }
                assert outcomes(await agenthost.reap(provider, unknown=True)) == {
                    info.id: ("kept", "its agent has a driver")
                }


async def test_what_cannot_be_asked_and_is_not_known_is_kept(tmp_path: Path) -> None:
    async with open_provider(PLAIN, secret="another machine's") as theirs:
        sandbox = await theirs.create(SandboxSpec())
        with hidden_owners(tmp_path):
            assert outcomes(await agenthost.reap(PLAIN, unknown=True)) == {
                sandbox.id: ("kept", "it cannot be asked whether somebody drives")
            }
        await sandbox.terminate()


async def test_owner_and_times_are_labels_from_the_beginning() -> None:
    async with open_provider(PLAIN) as provider:
        sandbox = await provider.create(replace(SandboxSpec(), max_lifetime=100))
        labels = (await sandbox.info()).labels
        await sandbox.terminate()
    assert int(labels["agenthost-end"]) - int(labels["agenthost-created"]) == 100
    assert labels["agenthost-owner"].startswith(f"{os.getpid()}-")
    assert KEY not in str(labels)


async def test_the_record_of_an_owner_goes_with_what_it_owned() -> None:
    with anyio.fail_after(LIMIT):
        done = await run_to_end(["python", "-c", MADE_AND_ENDED, PLAIN])
    owner, kept = done.stdout.split()
    assert kept == "True"
    assert not await anyio.Path(os.environ["AGENTHOST_STATE_DIR"], "owners", f"{owner}.owner").exists()
