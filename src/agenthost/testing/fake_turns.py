"""What a FakeAgent does in a turn: says messages, calls tools, asks the functions of the options."""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anyio
import claude_agent_sdk as sdk

from agenthost.agent.options import PlainOptions
from agenthost.testing.script import Hold, Stall

MODEL = "fake-model"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The agent wants a tool: the hooks PreToolUse and PostToolUse, and ``can_use_tool``, are asked.

    ``can_use_tool`` is not asked where a hook has decided, for ``allowed_tools`` and for
    ``bypassPermissions``. What such a function raises is raised to the reader and ends the agent.

    Attributes:
        name: The tool's name, ``Bash`` or ``mcp__server__tool``.
        input: Its input.
        result: What it answers when it may run. Nothing runs.
        is_error: Whether that answer is an error.
    """

    name: str
    input: Mapping[str, Any] = field(default_factory=dict[str, Any])
    result: str = field(default="", kw_only=True)
    is_error: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class HookCall:
    """The hooks of any event are asked.

    Attributes:
        event: ``UserPromptSubmit``, ``Stop`` ...
        input: What they are told, besides the event's name and the session's id.
    """

    event: str
    input: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to a function of the options, and its answer.

    Attributes:
        what: ``can_use_tool``, or the hook's event.
        input: What it was told: the tool's input, or the hook's.
        answer: What it returned.
    """

    what: str
    input: Mapping[str, Any]
    answer: Any


Item: TypeAlias = "sdk.Message | str | ToolCall | HookCall | Hold | Stall | Exception"


@dataclass(frozen=True, slots=True)
class _Run:
    """A tool that was announced."""

    call: ToolCall
    id: str


class Turn:
    """One turn, played as its messages are asked for. A read that is cancelled loses nothing."""

    def __init__(
        self,
        items: Iterable[Item],
        options: PlainOptions,
        session_id: str,
        asked: list[Asked],
        ids: itertools.count[int],
    ) -> None:
        self._steps: deque[Item | _Run] = deque()
        self._options = options
        self._session_id = session_id
        self._asked = asked
        self._said = ""
        self._scope: anyio.CancelScope | None = None
        self._interrupted = False
        self._ready: deque[sdk.Message] = deque()
        for item in items:
            if isinstance(item, ToolCall):
                name = f"toolu_fake_{next(ids)}"
                self._steps.append(_says(sdk.ToolUseBlock(name, item.name, dict(item.input))))
                self._steps.append(_Run(item, name))
            else:
                self._steps.append(_says(sdk.TextBlock(item)) if isinstance(item, str) else item)
        if not any(isinstance(step, sdk.ResultMessage | Exception) for step in self._steps):
            self._steps.append(result_message(session_id))

    def interrupt(self) -> None:
        """End it early: what comes next is a result that says so."""
        self._interrupted = True
        if self._scope is not None:
            self._scope.cancel()

    async def next(self) -> sdk.Message:
        """Return the next message; the turn is over with its ResultMessage.

        Raises:
            Exception: What stands in the script.
        """
        while not self._ready:
            if self._interrupted:
                self._steps.clear()
                return result_message(self._session_id, subtype="error_during_execution")
            step = self._steps[0]
            if isinstance(step, Exception):
                raise step
            with anyio.CancelScope() as self._scope:
                self._ready.extend(await self._perform(step))
                self._steps.popleft()
            self._scope = None
        message = self._ready.popleft()
        if isinstance(message, sdk.AssistantMessage):
            self._said = "".join(block.text for block in message.content if isinstance(block, sdk.TextBlock))
        elif isinstance(message, sdk.ResultMessage) and message.result is None and not message.is_error:
            message.result = self._said
        return message

    async def _perform(self, step: Item | _Run) -> list[sdk.Message]:
        match step:
            case _Run():
                return [await self._run(step)]
            case HookCall():
                await self._ask_hooks(step.event, dict(step.input), None)
                return []
            case Hold():
                await step.event.wait()
                return []
            case Stall():
                await anyio.sleep_forever()
                return []
            case str() | ToolCall() | Exception():  # were made into others at the beginning, or raised
                raise AssertionError(step)
            case message:
                return [message]

    async def _run(self, run: _Run) -> sdk.Message:
        call = run.call
        refused = await self._refusal(call, run.id)
        if refused is None:
            told = {"tool_name": call.name, "tool_input": dict(call.input), "tool_response": call.result}
            await self._ask_hooks("PostToolUse", told, run.id, tool=call.name)
            block = sdk.ToolResultBlock(run.id, call.result, is_error=call.is_error or None)
        else:
            block = sdk.ToolResultBlock(run.id, refused, is_error=True)
        return sdk.UserMessage([block])

    async def _refusal(self, call: ToolCall, tool_use_id: str) -> str | None:
        """Return why a tool must not run, None when it may."""
        told = {"tool_name": call.name, "tool_input": dict(call.input)}
        for answer in await self._ask_hooks("PreToolUse", told, tool_use_id, tool=call.name):
            own: Any = answer.get("hookSpecificOutput") or {}
            decision = own.get("permissionDecision")
            if decision == "deny" or answer.get("decision") == "block":
                return str(own.get("permissionDecisionReason") or answer.get("reason") or "denied by a hook")
            if decision == "allow":
                return None
        fields, function = self._options.fields, self._options.callbacks.can_use_tool
        allowed = call.name in (fields.get("allowed_tools") or ())
        if function is None or allowed or self._options.bypasses_permissions:
            return None
        context = sdk.ToolPermissionContext(tool_use_id=tool_use_id)
        answer = await function(call.name, dict(call.input), context)
        self._asked.append(Asked("can_use_tool", {"tool_name": call.name, **call.input}, answer))
        if isinstance(answer, sdk.PermissionResultDeny):
            self._interrupted = answer.interrupt
            return answer.message or "denied"
        return None

    async def _ask_hooks(
        self, event: str, told: dict[str, Any], tool_use_id: str | None, *, tool: str | None = None
    ) -> list[dict[str, Any]]:
        told = {"hook_event_name": event, "session_id": self._session_id, **told}
        answers: list[dict[str, Any]] = []
        for matcher in self._options.callbacks.hooks.get(event, []):
            if tool is not None and matcher.matcher and not re.fullmatch(matcher.matcher, tool):
                continue
            for hook in matcher.hooks:
                answer = await hook(told, tool_use_id, {"signal": None})
                self._asked.append(Asked(event, told, answer))
                answers.append(dict(answer or {}))
        return answers


def result_message(session_id: str, *, subtype: str = "success", **more: Any) -> sdk.ResultMessage:
    """Return a ResultMessage of one turn that cost nothing."""
    fields: dict[str, Any] = {
        "duration_ms": 1,
        "duration_api_ms": 1,
        "is_error": subtype != "success",
        "num_turns": 1,
        "total_cost_usd": 0.0,
        **more,
    }
    return sdk.ResultMessage(subtype=subtype, session_id=session_id, **fields)


def _says(block: sdk.TextBlock | sdk.ToolUseBlock) -> sdk.AssistantMessage:
    return sdk.AssistantMessage([block], MODEL)
