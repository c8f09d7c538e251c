"""Conversations with a FakeCLI that a seed makes up, and the proof that nothing of them was lost."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
from claude_agent_sdk import (
    HookMatcher,
    PermissionResultAllow,
    PermissionResultDeny,
    ResultMessage,
    StreamEvent,
    create_sdk_mcp_server,
    tool,
)
from support.messages import results, texts

from agenthost import HostedAgent
from agenthost.testing import FakeCLI, Hold, LinkFaults, ModelRequest, Text, Turn
from agenthost.testing.faults import KINDS

ORPHAN = "98765"  # seconds that what an agent leaves behind would sleep
STALLED = "now I stall"
_WORDS = ("partials", "partials", "say", "tools", "tools", "model", "mirror")


@dataclass
class Plan:
    """A turn: its steps, and what it must bring beside unbroken numbers."""

    steps: list[Any] = field(default_factory=list[Any])
    partials: int = 0
    texts: list[str] = field(default_factory=list[str])
    results: list[str] = field(default_factory=list[str])
    models: list[str] = field(default_factory=list[str])
    stored: list[int] = field(default_factory=list[int])
    # How often each callback is called, by its kind.
    calls: Counter[str] = field(default_factory=Counter[str])
    interrupted: bool = False


class Conversation:
    """One agent's life: callbacks, turns, and what came of them.

    The faults strike where it hurts, too: in callbacks, in the middle of a model's answer.
    """

    def __init__(self, faults: LinkFaults) -> None:
        self._chance = random.Random(0)
        self._luck = random.Random(0)  # of callbacks, whose order is nobody's
        self.asked: Counter[str] = Counter()  # model requests by their prompt
        self._faults = faults
        self._number = 0  # of the newest message
        self._calls: Counter[str] = Counter()  # callbacks by what they were called for
        self._stored: list[int] = []
        self._holds: dict[str, anyio.Event] = {}
        self._names = 0
        self.prefix = ""  # of prompts to the model, where several conversations share one

    def begin(self, seed: int) -> None:
        """Make up what follows by this seed."""
        self._chance = random.Random(seed)
        self._luck = random.Random(seed + 1)

    # ---- callbacks

    def callbacks(self) -> dict[str, Any]:
        """Return the options that are functions."""

        @tool("add", "adds one", {"number": int})
        async def add(given: dict[str, Any]) -> dict[str, Any]:
            await self._called("mcp", given["number"])
            return {"content": [{"type": "text", "text": str(given["number"] + 1)}]}

        return {
            "can_use_tool": self._decide,
            "hooks": {"PreToolUse": [HookMatcher(matcher="Read", hooks=[self._hook])]},
            "mcp_servers": {"calc": create_sdk_mcp_server("calc", tools=[add])},
            "allowed_tools": ["mcp__calc__add"],
            "session_store": self,
        }

    async def _decide(self, name: str, given: dict[str, Any], _context: Any) -> Any:
        await self._called("decide", given["n"])
        if name == "Write":
            return PermissionResultDeny(message=f"no {given['n']}")
        return PermissionResultAllow(updated_input={"n": given["n"] + 1})

    async def _hook(self, given: Any, _use: str | None, _context: Any) -> Any:
        await self._called("hook", given["tool_input"]["n"])
        return {}

    async def _called(self, kind: str, number: int) -> None:
        self._calls[f"{kind} {number}"] += 1
        if self._luck.random() < 0.2:
            self._strike()
            await anyio.lowlevel.checkpoint()

    def _strike(self) -> None:
        kind = self._luck.choice(KINDS)
        self._faults.strike(kind, lingers=self._luck.random() < 0.3, refused=self._luck.choice((0, 0, 1)))

    async def append(self, _key: Any, entries: list[Any]) -> None:
        """Be a session store."""
        self._stored += [entry["number"] for entry in entries]

    async def load(self, _key: Any) -> None:
        """Be a session store that has nothing."""

    def answer(self, request: ModelRequest) -> Turn:
        """Be the model. The prompt says how long the answer is, and whether it stops in the middle."""
        prompt = request.prompt
        self.asked[prompt] += 1
        text = _answer(prompt)
        half = len(text) // 2
        if prompt not in self._holds:
            return Turn(Text(text, delta=37))
        hold = Hold(self._holds[prompt])
        return Turn(Text(text[:half], delta=37, end=False), hold, Text(text[half:], delta=37))

    # ---- making turns up

    def make(self) -> Plan:
        """Make a turn up."""
        self._calls.clear()
        self._stored.clear()
        plan = Plan()
        for _ in range(self._chance.randint(1, 5)):
            match self._chance.choice(_WORDS):
                case "partials":
                    count = self._chance.choice((0, 1, 20, 200, 1000))
                    plan.steps.append(FakeCLI.partials(count, size=self._chance.choice((1, 40, 300))))
                    plan.partials += count
                case "say":
                    text = f"{self._name()} ünï " * self._chance.choice((1, 1, 5000))
                    plan.steps.append(FakeCLI.text(text))
                    plan.texts.append(text)
                case "model":
                    prompt = f"{self.prefix}m{self._name()} {self._chance.choice((5, 100, 3000))}"
                    if self._chance.random() < 0.5:
                        self._holds[prompt] = anyio.Event()
                    plan.steps.append(FakeCLI.model(prompt))
                    plan.models.append(prompt)
                    plan.texts.append(_answer(prompt))
                case "mirror":
                    count = self._chance.choice((1, 50))
                    plan.steps.append(FakeCLI.mirror(count))
                    plan.stored += range(count)
                case _:
                    calls = [self._tool(plan) for _ in range(self._chance.randint(1, 3))]
                    plan.steps.append(FakeCLI.tools(*calls))
        if self._chance.random() < 0.1:
            plan.steps.append(FakeCLI.spawn("sleep", ORPHAN))
        plan.interrupted = self._chance.random() < 0.1
        if plan.interrupted:
            plan.steps += [FakeCLI.text(STALLED), FakeCLI.stall()]
            plan.texts.append(STALLED)
        return plan

    def _tool(self, plan: Plan) -> Any:
        number = self._name()
        match self._chance.choice(("mcp", "Write", "Bash", "Read")):
            case "mcp":
                plan.results.append(str(number + 1))
                plan.calls[f"mcp {number}"] = 1
                return FakeCLI.tool("mcp__calc__add", {"number": number})
            case "Write":
                plan.results.append(f"no {number}")
                plan.calls[f"decide {number}"] = 1
                return FakeCLI.tool("Write", {"n": number}, ask=True)
            case "Bash":
                plan.results.append(f'{{"n": {number + 1}}}')
                plan.calls[f"decide {number}"] = 1
                return FakeCLI.tool("Bash", {"n": number}, ask=True)
            case _:
                plan.results.append(f'{{"n": {number}}}')
                plan.calls[f"hook {number}"] = 1
                return FakeCLI.tool("Read", {"n": number})

    def _name(self) -> int:
        self._names += 1
        return self._names

    # ---- having them

    async def turn(self, agent: HostedAgent) -> None:
        """Have a turn, with a control request beside it, and check what it brought.

        Raises:
            AssertionError: Something was lost, repeated or out of order.
        """
        plan = self.make()
        messages: list[Any] = []
        models = list(plan.models)
        answering = ""
        async with anyio.create_task_group() as tasks:
            await agent.query(FakeCLI.prompt(*plan.steps))
            tasks.start_soon(_control, agent)
            async for message in agent.receive_response():
                messages.append(message)
                if isinstance(message, StreamEvent) and message.event["type"] == "message_start":
                    answering = models.pop(0) if models else "one too many"
                elif isinstance(message, StreamEvent) and answering in self._holds:
                    # In the middle of an answer the link breaks, and the model goes on.
                    self._strike()
                    self._holds.pop(answering).set()
                elif plan.interrupted and texts([message]) == [STALLED]:
                    await agent.interrupt()
        self._check(plan, messages)

    def _check(self, plan: Plan, messages: list[Any]) -> None:
        self._check_messages(plan, messages)
        assert not retries(messages)
        assert results(messages) == plan.results
        assert self._calls == plan.calls
        assert self._stored == plan.stored
        for prompt in plan.models:
            assert self.asked[prompt] == 1, f"the model was asked {self.asked[prompt]} times for {prompt!r}"

    def _check_messages(self, plan: Plan, messages: list[Any]) -> None:
        numbers = [FakeCLI.number(message) for message in messages]
        expected = list(range(self._number + 1, self._number + 1 + len(messages)))
        assert numbers == expected, f"messages {_differences(expected, numbers)}"
        self._number += len(messages)
        result = messages[-1]
        assert isinstance(result, ResultMessage)
        assert result.is_error == plan.interrupted, result
        assert texts(messages) == plan.texts
        assert _partials(messages) == plan.partials


def retries(messages: list[Any]) -> int:
    """Count how often the CLI says that it asks the model again."""
    return sum(getattr(message, "subtype", "") == "api_retry" for message in messages)


async def _control(agent: HostedAgent) -> None:
    status: Any = await agent.get_mcp_status()
    assert [server["name"] for server in status["mcpServers"]] == ["calc"]


def _answer(prompt: str) -> str:
    return "".join(f"{number} " for number in range(int(prompt.split()[1])))


def _partials(messages: list[Any]) -> int:
    """Count the partial messages that are none of a model's answer."""
    count, answering = 0, False
    for message in messages:
        if isinstance(message, StreamEvent):
            answering = answering or message.event["type"] == "message_start"
            count += not answering
            answering = answering and message.event["type"] != "message_stop"
    return count


def _differences(expected: list[int], numbers: list[int | None]) -> str:
    lost = sorted(set(expected) - set(numbers))
    again = [number for number, count in Counter(numbers).items() if count > 1]
    return (
        f"lost {lost[:5]} ({len(lost)}), repeated {again[:5]} ({len(again)}), or in disorder: {numbers[:9]}"
    )
