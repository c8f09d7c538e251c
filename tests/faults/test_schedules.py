"""Seeded faults of the link while an agent works: each event exactly once and in order, whatever happens.

A schedule that fails prints its seed. To run it again: ``scripts/test tests/faults --schedule-seed SEED``.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from faults.conversations import Conversation
from faults.fault_world import AT_ONCE, KEY, LIMIT, LIMITS, running, shared_sandbox, short_provider
from faults.many_schedules import run_many
from support.deep_runs import chosen_seeds

from agenthost import HostedAgent
from agenthost.testing import FakeCLI, LinkFaults, ScriptedModel
from agenthost.testing.faults import KINDS, Fault, seeded_plan

TURNS = 3
# Schedules that one agent lives through. Each seed that is a multiple of it begins with a fresh agent, which
# is started while the link breaks; the others find one that is connected.
PER_AGENT = 5


@asynccontextmanager
async def hosted(
    sandbox_id: str, cli_path: str, faults: LinkFaults, conversation: Conversation
) -> AsyncGenerator[HostedAgent]:
    """Have an agent with a link of its own, to a sandbox that it shares with others."""
    provider = short_provider()
    options: dict[str, Any] = {**conversation.callbacks(), "cli_path": cli_path}
    options["include_partial_messages"] = True
    async with (
        ScriptedModel(conversation.answer, api_key=KEY) as model,
        faults,
        faults.around(provider),
    ):
        options["env"] = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": model.url}
        async with HostedAgent(options, sandbox=await provider.get(sandbox_id), limits=LIMITS) as agent:
            yield agent


async def run_group(seeds: Sequence[int], sandbox_id: str, cli_path: str) -> list[Fault]:
    """Run schedules that share an agent, return what struck. AssertionError: with the seed and that."""
    faults = LinkFaults()
    conversation = Conversation(faults)
    seed, plan = seeds[0], seeded_plan(seeds[0])
    fresh = seed % PER_AGENT == 0
    try:
        if fresh:
            faults.add(*plan)
        async with hosted(sandbox_id, cli_path, faults, conversation) as agent:
            for seed in seeds:
                if not fresh:
                    faults.add(*seeded_plan(seed))
                fresh = False
                conversation.begin(seed)
                with anyio.fail_after(2 * LIMIT):  # slow carriers on a busy machine take their time
                    for _ in range(TURNS):
                        await conversation.turn(agent)
    except Exception as error:
        struck = "".join(f"\n  {fault}" for fault in faults.struck)
        raise AssertionError(f"schedule {seed} failed: {error!r}; what struck:{struck}") from error
    return faults.struck


async def run_schedules(seeds: Sequence[int], sandbox_id: str, cli_path: str) -> list[Fault]:
    """Run schedules, several agents at once; return what struck."""
    groups = [list(group) for _, group in itertools.groupby(seeds, lambda seed: seed // PER_AGENT)]
    run = partial(run_group, sandbox_id=sandbox_id, cli_path=cli_path)
    struck = await run_many(run, groups, at_once=AT_ONCE, what="agents")
    return list(itertools.chain.from_iterable(struck))


async def test_each_event_arrives_once_and_in_order_whatever_befalls_the_link(
    pytestconfig: pytest.Config, anyio_backend: str
) -> None:
    seeds = chosen_seeds(pytestconfig, anyio_backend, normal=10, full=60, together=PER_AGENT)
    async with shared_sandbox() as sandbox:
        path = await FakeCLI().put(sandbox)
        struck = await run_schedules(seeds, sandbox.id, path)
        assert await running(sandbox) == []
    # A schedule in which nothing happens proves nothing.
    assert len(struck) >= len(seeds)
    if len(seeds) >= 20:
        assert {fault.kind for fault in struck} == set(KINDS)
