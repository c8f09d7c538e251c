"""Seeded deaths of hosts while an agent works: the next host gets each event once, from the saved cursor on.

A schedule that fails prints its seed. To run it again: ``scripts/test tests/faults --schedule-seed SEED``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from faults.fault_world import AT_ONCE, KEY, LIMIT, LIMITS, running, shared_sandbox, short_provider
from faults.handovers import LongConversation
from faults.many_schedules import run_many
from support.deep_runs import chosen_seeds

from agenthost import AgentRef, Cursor, HostedAgent
from agenthost.testing import FakeCLI, LinkFaults, ModelRequest, ScriptedModel, Turn
from agenthost.testing.faults import seeded_plan

TURNS = 4
DEATHS = 3


class World:
    """Hosts of one sandbox, and the model that they all ask."""

    def __init__(self, sandbox_id: str, cli_path: str) -> None:
        self._sandbox_id = sandbox_id
        self._cli_path = cli_path
        self._conversations: dict[str, LongConversation] = {}

    def answer(self, request: ModelRequest) -> Turn:
        """Be the model."""
        return self._conversations[request.prompt.split("/")[0]].answer(request)

    async def read_journal(self, agent: str, end: Cursor) -> list[dict[str, Any]]:
        """Return an agent's events up to a cursor, as one more process that only looks."""
        data = b""
        async with short_provider() as provider:
            sandbox = await provider.get(self._sandbox_id)
            async with sandbox.observe_agent(agent) as journal:
                while len(data) < end.offset:
                    data += await journal.receive()
        return [json.loads(line) for line in data[: end.offset].splitlines()]

    async def run(self, seed: int) -> None:
        """Run one schedule. AssertionError: with the seed."""

        @asynccontextmanager
        async def attach(ref: AgentRef, cursor: Cursor) -> AsyncGenerator[tuple[HostedAgent, LinkFaults]]:
            faults = LinkFaults(seeded_plan(seed + 1000 * cursor.seq, most=2))
            async with faults, faults.around(short_provider()) as provider:
                sandbox = await provider.get(self._sandbox_id)
                options = conversation.callbacks()
                async with HostedAgent.attach(
                    ref, sandbox=sandbox, after=cursor, options=options, limits=LIMITS
                ) as agent:
                    yield agent, faults

        name = f"s{seed}"
        conversation = LongConversation(
            seed, turns=TURNS, deaths=DEATHS, attach=attach, read_journal=self.read_journal
        )
        conversation.prefix = f"{name}/"
        self._conversations[name] = conversation
        options: dict[str, Any] = {**conversation.callbacks(), "include_partial_messages": True}
        options["cli_path"] = self._cli_path
        try:
            with anyio.fail_after(2 * LIMIT):
                async with LinkFaults() as faults, faults.around(short_provider()) as provider:
                    sandbox = await provider.get(self._sandbox_id)
                    async with HostedAgent(options, sandbox=sandbox, limits=LIMITS) as agent:
                        await conversation.live(agent, faults)
        except Exception as error:
            raise AssertionError(f"schedule {seed} failed: {error!r}") from error
        finally:
            del self._conversations[name]


async def test_each_host_goes_on_where_the_one_before_had_saved_its_cursor(
    pytestconfig: pytest.Config, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = chosen_seeds(pytestconfig, anyio_backend, normal=2, full=12)
    async with shared_sandbox() as sandbox:
        world = World(sandbox.id, await FakeCLI().put(sandbox))
        async with ScriptedModel(world.answer, api_key=KEY) as model:
            monkeypatch.setenv("ANTHROPIC_BASE_URL", model.url)
            await run_many(world.run, seeds, at_once=AT_ONCE)
        assert await running(sandbox) == []
