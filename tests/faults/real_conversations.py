"""Conversations with the real CLI that a seed makes up, and the proof that nothing of them was lost."""

from __future__ import annotations

import random
from collections import Counter
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
from faults.conversations import retries
from support.messages import results, texts

from agenthost import HostedAgent
from agenthost.testing import Hold, LinkFaults, ScriptedModel, Text, ToolUse, Turn
from agenthost.testing.faults import KINDS


class RealConversation:
    """One agent with the real CLI, its callbacks, and turns of which each model request is in the script."""

    def __init__(self, seed: int, *, faults: LinkFaults, model: ScriptedModel) -> None:
        self._chance = random.Random(seed)
        self._luck = random.Random(seed + 1)
        self._faults = faults
        self._model = model
        self._log = f"log-{seed}"
        self._names = 0
        self._calls: Counter[str] = Counter()
        self._written: list[str] = []
        self._holds: list[anyio.Event] = []

    def options(self) -> dict[str, Any]:
        """Return the agent's options."""

        @tool("add", "adds one", {"number": int})
        async def add(given: dict[str, Any]) -> dict[str, Any]:
            await self._called(f"mcp {given['number']}")
            return {"content": [{"type": "text", "text": str(given["number"] + 1)}]}

        return {
            "include_partial_messages": True,
            "can_use_tool": self._decide,
            "hooks": {"PreToolUse": [HookMatcher(matcher="Bash", hooks=[self._hook])]},
            "mcp_servers": {"calc": create_sdk_mcp_server("calc", tools=[add])},
            "allowed_tools": ["mcp__calc__add"],
        }

    async def _decide(self, _name: str, given: dict[str, Any], _context: Any) -> Any:
        await self._called(f"decide {given['description']}")
        if "refused" in given["description"]:
            return PermissionResultDeny(message=f"no {given['description']}")
        return PermissionResultAllow()

    async def _hook(self, given: Any, _use: str | None, _context: Any) -> Any:
        await self._called(f"hook {given['tool_input']['description']}")
        return {}

    async def _called(self, what: str) -> None:
        self._calls[what] += 1
        if self._luck.random() < 0.4:
            self._strike()
            await anyio.lowlevel.checkpoint()

    def _strike(self) -> None:
        self._faults.strike(self._luck.choice(KINDS), lingers=self._luck.random() < 0.3)

    async def turn(self, agent: HostedAgent) -> None:
        """Have a turn, and check what it brought."""
        self._calls.clear()
        said: list[str] = []
        found: list[str] = []
        calls: Counter[str] = Counter()
        for _ in range(self._chance.randint(0, 3)):
            self._model.add(self._use_tool(found, calls))
        self._model.add(self._say(said))
        messages: list[Any] = []
        await agent.query("go on")
        async for message in agent.receive_response():
            messages.append(message)
            if self._holds and _streamed([message]):
                self._strike()  # in the middle of an answer; then the model goes on
                self._holds.pop().set()
        result = messages[-1]
        assert isinstance(result, ResultMessage)
        assert not result.is_error, result
        assert texts(messages) == said
        assert _streamed(messages) == "".join(said)
        assert results(messages) == found
        assert self._calls == calls
        assert not retries(messages)

    def _use_tool(self, results: list[str], calls: Counter[str]) -> ToolUse:
        self._names += 1
        number = self._names
        match self._chance.choice(("mcp", "Bash", "Bash", "refused")):
            case "mcp":
                results.append(str(number + 1))
                calls[f"mcp {number}"] = 1
                return ToolUse("mcp__calc__add", {"number": number})
            case "refused":
                calls[f"hook refused {number}"] = calls[f"decide refused {number}"] = 1
                results.append(f"no refused {number}")
                command = f"echo refused >> {self._log}"
                return ToolUse("Bash", {"command": command, "description": f"refused {number}"})
            case _:
                calls[f"hook {number}"] = calls[f"decide {number}"] = 1
                self._written.append(str(number))
                results.append(f"made {number}")
                command = f"echo {number} >> {self._log}; echo made {number}"
                return ToolUse("Bash", {"command": command, "description": str(number)})

    def _say(self, texts: list[str]) -> Turn:
        first, second = (
            Text.deltas(self._chance.choice((2, 100, 2000))),
            Text.deltas(self._chance.choice((2, 500))),
        )
        texts.append(first.text + second.text)
        hold = anyio.Event()
        if self._chance.random() < 0.5:
            hold.set()
        else:
            self._holds.append(hold)
        begun = Text(first.text, delta=first.delta, end=False)
        return Turn(begun, Hold(hold), second)

    async def check_work(self, agent: HostedAgent) -> None:
        """What the tools did was done once, and the model was asked for nothing beyond the script."""
        if self._written:
            assert (await agent.sandbox.read_file(self._log)).decode().split() == self._written
        self._model.assert_played()


def _streamed(messages: list[Any]) -> str:
    """Return the text of the partial messages."""
    deltas = [message.event.get("delta", {}) for message in messages if isinstance(message, StreamEvent)]
    return "".join(delta["text"] for delta in deltas if delta.get("type") == "text_delta")
