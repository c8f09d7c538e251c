"""Seeded faults of the link under the real CLI: messages, callbacks, tools and model requests, each once.

A schedule that fails prints its seed. To run it again: ``scripts/test tests/faults --schedule-seed SEED``.
"""

from __future__ import annotations

from functools import partial

import anyio
import pytest
from faults.fault_world import KEY, LIMIT, LIMITS, running, shared_sandbox, short_provider
from faults.many_schedules import run_many
from faults.real_conversations import RealConversation
from support.deep_runs import chosen_seeds

from agenthost import HostedAgent
from agenthost.testing import LinkFaults, ScriptedModel
from agenthost.testing.faults import seeded_plan

TURNS = 3
AT_ONCE = 3


async def run_schedule(seed: int, sandbox_id: str) -> int:
    """Run one schedule, return how many faults struck. AssertionError: with the seed and what struck."""
    faults = LinkFaults(seeded_plan(seed))
    try:
        with anyio.fail_after(2 * LIMIT):
            async with (
                ScriptedModel(api_key=KEY) as model,
                faults,
                faults.around(short_provider()) as provider,
            ):
                conversation = RealConversation(seed, faults=faults, model=model)
                env = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": model.url}
                options = {**conversation.options(), "env": env}
                sandbox = await provider.get(sandbox_id)
                async with HostedAgent(options, sandbox=sandbox, limits=LIMITS) as agent:
                    for _ in range(TURNS):
                        await conversation.turn(agent)
                    await conversation.check_work(agent)
    except Exception as error:
        struck = "".join(f"\n  {fault}" for fault in faults.struck)
        raise AssertionError(f"schedule {seed} failed: {error!r}; what struck:{struck}") from error
    return len(faults.struck)


async def test_each_message_arrives_once_and_no_request_is_made_twice_with_the_real_cli(
    pytestconfig: pytest.Config, anyio_backend: str
) -> None:
    seeds = chosen_seeds(pytestconfig, anyio_backend, normal=1, full=8)
    async with shared_sandbox() as sandbox:
        run = partial(run_schedule, sandbox_id=sandbox.id)
        struck = await run_many(run, seeds, at_once=AT_ONCE)
        assert await running(sandbox) == []
    assert sum(struck) >= len(struck)  # a schedule in which nothing happens proves nothing
