"""Questions from inside that two readers of the host would read in two ways."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import anyio
import pytest
from claude_agent_sdk import HookMatcher, create_sdk_mcp_server, tool
from support.waiting import until_true

from agenthost.agent import answering
from agenthost.agent.answering import Answers
from agenthost.agent.callbacks import Callbacks
from agenthost.agent.question_shape import check_question
from agenthost.agent.tool_authority import ToolAuthority
from agenthost.wire.codec import Codec

LIMIT = 20
UNAPPROVED = "have the host run a tool that it has not approved"
BYTES = "a method that is bytes on the wire, and a text for the library behind the check"
BROKEN_HOOK = "a question that makes a hook of the host fail"
HANDSHAKE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "inside", "version": "1"},
}


def wire(text: str) -> dict[str, str]:
    return {"$bytes": b64encode(text.encode()).decode()}


async def calls_of(*questions: dict[str, Any], allowed: bool = False) -> list[Any]:
    """Ask the host; return the inputs with which its tool ran."""
    ran: list[Any] = []
    answers: list[dict[str, Any]] = []

    @tool("pay", "Pay an amount.", {"amount": int})
    async def pay(given: dict[str, Any]) -> dict[str, Any]:
        ran.append(given)
        return {"content": [{"type": "text", "text": "paid"}]}

    async def guard(given: Any, _id: object, _context: object) -> Any:
        assert given["cwd"]  # as a guard that looks at where the agent is
        return {"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": "deny"}}

    async def send(line: dict[str, Any]) -> None:
        answers.append(line)

    async def codec() -> Codec:
        return Codec({})

    hooks: Any = {"PreToolUse": [HookMatcher(hooks=[guard])]} if allowed else {}
    servers: Any = {"own": create_sdk_mcp_server("own", tools=[pay])}
    authority = ToolAuthority(hooks)
    authority.take_options({"setting_sources": [], "allowed_tools": ["mcp__own__pay"] if allowed else []})
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            asked = Answers(
                Callbacks(hooks=hooks, servers=servers), send=send, codec=codec, authority=authority
            )
            asked.start(tasks)
            for number, question in enumerate(questions):
                asked.request({"id": number, **question}, size=0, values=0)
                await until_true(lambda: len(answers) > number)  # noqa: B023 - awaited in this turn
            tasks.cancel_scope.cancel()
    return ran


def pass_all(_event: object) -> None:
    """Look at nothing."""


def call(method: object) -> dict[str, Any]:
    message = {
        "jsonrpc": "2.0",
        "id": 7,
        "method": method,
        "params": {"name": "pay", "arguments": {"amount": 3}},
    }
    return {"what": "mcp", "server": "own", "message": message, "handshake": HANDSHAKE}


def asked_hook() -> dict[str, Any]:
    given = {"tool_name": "mcp__own__pay", "tool_input": {"amount": 3}}
    return {
        "what": "hook",
        "event": "PreToolUse",
        "matcher": 0,
        "hook": 0,
        "input": given,
        "tool_use_id": "t",
    }


@pytest.mark.attack(UNAPPROVED, BYTES)
@pytest.mark.parametrize("method", ["tools/call", wire("tools/call")], ids=["text", "bytes"])
async def test_a_call_runs_in_no_form_without_an_approval(method: object) -> None:
    assert await calls_of(call(method)) == []


@pytest.mark.control(BYTES)
async def test_without_a_look_at_its_form_a_call_in_bytes_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "check_question", pass_all)
    assert await calls_of(call(wire("tools/call"))) == [{"amount": 3}]


@pytest.mark.attack(UNAPPROVED, BROKEN_HOOK)
async def test_a_hook_that_was_asked_without_its_fields_has_let_nothing_pass() -> None:
    assert await calls_of(asked_hook(), call("tools/call"), allowed=True) == []


@pytest.mark.control(BROKEN_HOOK)
async def test_without_a_look_at_its_fields_a_hook_that_fails_lets_the_call_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answering, "check_question", pass_all)
    assert await calls_of(asked_hook(), call("tools/call"), allowed=True) == [{"amount": 3}]


@pytest.mark.parametrize(
    "question",
    [
        {"what": "can_use_tool", "tool_name": 5, "input": {}},
        {"what": "can_use_tool", "tool_name": "x" * 513, "input": {}},
        {"what": "can_use_tool", "tool_name": "Bash", "input": [1]},
        {"what": "can_use_tool", "tool_name": "Bash", "input": {"a": {"$map": [["b", 1]]}}},
        {"what": "mcp", "server": "own", "message": {"$map": [["method", "tools/call"]]}},
        {
            "what": "mcp",
            "server": "own",
            "message": {"method": "tools/call", "params": {"name": wire("pay")}},
        },
        {"what": "mcp", "server": "own", "message": {"method": {"$str": "eA=="}}},
    ],
)
def test_what_the_cli_cannot_have_asked_is_refused(question: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"JSON|text|object"):
        check_question(question)


def test_what_the_cli_may_ask_passes() -> None:
    check_question({"what": "can_use_tool", "tool_name": "Bash", "input": {"$$ref": {"$int": "0x1"}}})
    check_question({"what": "mcp", "server": "own", "message": {"id": 1, "result": {"a": [1, None]}}})
