"""The link breaks from the making of a sandbox to its end, or for good: all arrives, or an error in time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import anyio
import pytest
from claude_agent_sdk import PermissionResultAllow, StreamEvent
from faults.conversations import Conversation
from faults.fault_world import AT_ONCE, KEY, LIMIT, LIMITS, short_provider
from faults.many_schedules import run_many
from support.deep_runs import chosen_seeds
from support.hosting import sandboxes_of

from agenthost import HostedAgent, Limits
from agenthost.errors import LinkLostError
from agenthost.testing import FakeCLI, Fault, LinkFaults, ScriptedModel
from agenthost.testing.faults import seeded_plan

IMPATIENT = Limits(start=30, link_budget=1.5, close=3)
FOR_GOOD = 10**6  # dials that are refused


def make_workspace(directory: Path, seed: int) -> dict[str, bytes]:
    """Fill a directory, FakeCLI among the rest; returns what is in it."""
    chance = random.Random(seed)
    files = {f"file {n} ünï": chance.randbytes(chance.choice((0, 10, 300_000))) for n in range(5)}
    files["claude"] = FakeCLI().source()
    directory.mkdir(parents=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    (directory / "claude").chmod(0o755)
    return files


async def live(seed: int, directory: Path) -> None:
    """Have a whole life with faults. AssertionError: with the seed and what struck."""
    faults = LinkFaults(seeded_plan(seed, most=6))
    conversation = Conversation(faults)
    conversation.begin(seed)
    files = make_workspace(directory / "in", seed)
    try:
        with anyio.fail_after(2 * LIMIT):
            async with (
                ScriptedModel(conversation.answer, api_key=KEY) as model,
                faults,
                faults.around(short_provider()) as provider,
            ):
                options: dict[str, Any] = {**conversation.callbacks(), "include_partial_messages": True}
                options["cli_path"] = "/workspace/claude"
                options["env"] = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": model.url}
                async with HostedAgent(
                    options, provider=provider, workspace=directory / "in", limits=LIMITS
                ) as agent:
                    await conversation.turn(agent)
                    faults.add(*seeded_plan(seed + 1))
                    await agent.download(directory / "out")
                    await conversation.turn(agent)
        assert {path.name: path.read_bytes() for path in (directory / "out").iterdir()} == files
    except Exception as error:
        struck = "".join(f"\n  {fault}" for fault in faults.struck)
        raise AssertionError(f"life {seed} failed: {error!r}; what struck:{struck}") from error


async def test_a_sandbox_is_made_filled_used_and_ended_while_its_link_breaks(
    pytestconfig: pytest.Config, anyio_backend: str, tmp_path: Path
) -> None:
    seeds = chosen_seeds(pytestconfig, anyio_backend, normal=1, full=8)

    async def run(seed: int) -> None:
        await live(seed, tmp_path / str(seed))

    await run_many(run, seeds, at_once=AT_ONCE // 2, what="lives")
    assert await sandboxes_of("local") == []


@pytest.mark.parametrize("kind", ["cut", "stall", "half-open"])
@pytest.mark.parametrize("stage", ["start", "turn", "callback", "detach", "close"])
async def test_a_link_that_never_comes_back_is_an_error_in_time_and_leaves_nothing(
    tmp_path: Path, stage: str, kind: Any
) -> None:
    faults = LinkFaults()

    async def decide(*_: object) -> PermissionResultAllow:
        if stage == "callback":
            faults.isolate(kind)
        return PermissionResultAllow()

    async def use(agent: HostedAgent) -> None:
        steps = [FakeCLI.partials(500), FakeCLI.tool("Bash", ask=True), FakeCLI.stall()]
        await agent.query(FakeCLI.prompt(*steps))
        async for message in agent.receive_messages():
            if isinstance(message, StreamEvent) and stage in ("turn", "detach", "close"):
                faults.isolate(kind)
                if stage == "detach":
                    await agent.query("one more, which cannot arrive")
                    await agent.detach()
                if stage == "close":
                    return

    make_workspace(tmp_path / "in", 0)
    options = {"cli_path": "/workspace/claude", "include_partial_messages": True, "can_use_tool": decide}
    if stage == "start":
        # For each carrier: on a busy machine one may be given up as silent before it has brought so much.
        faults.add(*[Fault(kind, "down", 300, refused=FOR_GOOD)] * 100)
    with anyio.fail_after(LIMIT):
        async with faults, faults.around(short_provider(IMPATIENT)) as provider:
            agent = HostedAgent(options, provider=provider, workspace=tmp_path / "in", limits=IMPATIENT)
            if stage == "close":
                async with agent:
                    await use(agent)  # leaving is bounded, and nothing is wanted of it any more
            else:
                with pytest.raises(LinkLostError) as caught:
                    async with agent:
                        await use(agent)
                # An agent that nobody has heard of yet ends with its sandbox. Any other one runs on, because
                # somebody who has the ref may still want it.
                assert (caught.value.ref is None) == (stage == "start")
                if caught.value.ref is not None:
                    async with HostedAgent.attach(caught.value.ref, options={"can_use_tool": decide}) as heir:
                        await heir.interrupt()
        assert await sandboxes_of("local") == []
