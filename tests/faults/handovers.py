"""A conversation that outlives its hosts: each dies in the middle of a turn, and the next one goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest
from claude_agent_sdk import ResultMessage, StreamEvent
from faults.conversations import STALLED, Conversation, Plan, retries
from support.messages import results, texts

from agenthost import AgentRef, Cursor, HostedAgent
from agenthost.errors import SupersededError
from agenthost.testing import FakeCLI, LinkFaults

UNKNOWN = "outcome of this tool call is unknown"

Host = tuple[HostedAgent, LinkFaults]
Attach = Callable[[AgentRef, Cursor], AbstractAsyncContextManager[Host]]

ReadJournal = Callable[[str, Cursor], Awaitable[list[dict[str, Any]]]]


class LongConversation(Conversation):
    """One agent with several hosts, one after the other.

    A host that dies is one that the guest does not hear of any more: its carriers break, for good. What it
    had read since it last saved its cursor is forgotten; the next one gets it again.
    """

    def __init__(
        self, seed: int, *, turns: int, deaths: int, attach: Attach, read_journal: ReadJournal
    ) -> None:
        super().__init__(LinkFaults())  # what strikes here are deaths
        self.begin(seed)
        self.repeated = 0
        self._turns = turns
        self._deaths = deaths
        self._attach = attach
        self._read_journal = read_journal
        self._plan: Plan | None = None
        self._messages: list[Any] = []
        self._saved = (Cursor(), 0)  # and how many messages of this turn lie before it
        self._moment: tuple[str, int] = ("", 0)
        self._died = 0  # in this turn
        self._scope = anyio.CancelScope()
        self._dying = False
        self._answering = ""

    # ---- callbacks

    async def _called(self, kind: str, number: int) -> None:
        self._calls[f"{kind} {number}"] += 1
        if self._moment[0] == "callback" and not self._dying:
            self._dying = True
            self._scope.cancel()
            await anyio.sleep_forever()

    async def append(self, _key: Any, entries: list[Any]) -> None:
        """Be a session store: an entry that is here already has come again with the next host."""
        self._stored += [entry["uuid"] for entry in entries if entry["uuid"] not in self._stored]

    # ---- turns

    async def live(self, agent: HostedAgent, faults: LinkFaults) -> None:
        """Go on as this host; die when it is time, and let another one go on."""
        while self._plan is not None or self._turns:
            if self._plan is None:
                await self._begin_turn(agent)
            with anyio.CancelScope() as self._scope:
                await self._read(agent)
            if self._dying:
                await self._pass_on(agent, faults)
                return
            assert self._plan is not None
            self._check_turn(self._plan)
            self._plan = None
            self._save(agent)
        self.check_journal(await self._read_journal(agent.ref.agent, agent.cursor))

    async def _begin_turn(self, agent: HostedAgent) -> None:
        self._turns -= 1
        self._messages.clear()
        self._saved = (agent.cursor, 0)
        self._died = 0
        plan = self._plan = self.make()
        self._choose_moment(plan)
        await agent.query(FakeCLI.prompt(*plan.steps))

    def _choose_moment(self, plan: Plan) -> None:
        self._dying = False
        self._moment = ("", 0)
        if self._deaths and self._luck.random() < 0.8:
            kinds = ["message"] + ["callback"] * bool(plan.calls)
            kinds += ["answer"] * 2 * any(prompt in self._holds for prompt in plan.models)
            self._moment = (self._luck.choice(kinds), self._luck.choice((1, 2, 5, 30, 150)))

    async def _read(self, agent: HostedAgent) -> None:
        seen = 0
        if texts(self._messages[-1:]) == [STALLED]:
            await agent.interrupt()  # the host before died before it could
        async for message in agent.receive_messages():
            self._messages.append(message)
            seen += 1
            if self._luck.random() < 0.3:
                self._save(agent)
            if isinstance(message, ResultMessage):
                return
            self._look_at(message)
            if self._moment == ("message", seen):
                self._dying = True
            if self._dying:
                return
            if texts([message]) == [STALLED]:
                await agent.interrupt()

    def _look_at(self, message: Any) -> None:
        if not isinstance(message, StreamEvent):
            return
        if message.event["type"] == "message_start":
            prompts = [prompt for prompt in self._plan_of_now().models if prompt in self._holds]
            self._answering = prompts[0] if prompts and self.asked[prompts[0]] else ""
        elif self._answering and message.event["type"] == "content_block_delta":
            # In the middle of an answer that waits for us.
            hold = self._holds.pop(self._answering)
            if self._moment[0] == "answer":
                self._dying = True  # asked again, it is answered in one go
            else:
                hold.set()
            self._answering = ""

    def _plan_of_now(self) -> Plan:
        assert self._plan is not None
        return self._plan

    def _save(self, agent: HostedAgent) -> None:
        self._saved = (agent.cursor, len(self._messages))

    async def _pass_on(self, agent: HostedAgent, faults: LinkFaults) -> None:
        """Die, and let another host live. Then this one learns that it has been followed."""
        self._deaths -= 1
        self._died += 1
        self._answering = ""
        cursor, kept = self._saved
        del self._messages[kept:]
        faults.isolate(self._luck.choice(("cut", "cut", "stall")), lingers=self._luck.random() < 0.3)
        async with self._attach(agent.ref, cursor) as (heir, heir_faults):
            faults.heal()
            with pytest.raises(SupersededError):
                async for _ in agent.receive_messages():
                    pass
            self._choose_moment(self._plan_of_now())
            await self.live(heir, heir_faults)

    # ---- checks

    def _check_turn(self, plan: Plan) -> None:
        self._check_messages(plan, self._messages)
        for wanted, got in zip(plan.results, results(self._messages), strict=True):
            assert got == wanted or (self._died and UNKNOWN in got and wanted.isdigit()), (got, wanted)
        most = 1 + self._died
        for name in plan.calls:
            if name.startswith("mcp"):
                assert self._calls[name] <= 1, f"{name} was run {self._calls[name]} times"
            else:
                assert 1 <= self._calls[name] <= most, f"{name} was asked {self._calls[name]} times"
        assert self._calls.keys() <= plan.calls.keys()
        assert len(self._stored) == len(plan.stored)
        for prompt in plan.models:
            assert 1 <= self.asked[prompt] <= most, (
                f"{prompt!r}: the model was asked {self.asked[prompt]} times"
            )
        assert retries(self._messages) <= self._died
        self.repeated += retries(self._messages)

    def check_journal(self, events: list[dict[str, Any]]) -> None:
        """The journal holds each event once, and says what was asked of the model again."""
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        kinds = Counter(event["kind"] for event in events)
        assert kinds["message"] == self._number
        states = Counter(event["state"] for event in events if event["kind"] == "state")
        assert states["answer_repeated"] == self.repeated, (states, self.repeated)
