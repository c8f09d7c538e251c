"""What a sandbox may ask of its host: only what the host gave, however the question is made."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from claude_agent_sdk import HookMatcher
from support.waiting import until_true

from agenthost.agent.answering import Answers
from agenthost.agent.callbacks import Callbacks
from agenthost.agent.tool_authority import ToolAuthority
from agenthost.errors import AgentError
from agenthost.wire.codec import Codec

LIMIT = 10
KEY = {"project_key": "-workspace", "session_id": "s"}


class Store:
    """A store with more methods than a store has."""

    def __init__(self) -> None:
        self.called: list[str] = []

    async def load(self, key: Any) -> list[Any]:
        self.called.append(f"load {key}")
        return []

    async def delete(self, key: Any) -> None:
        self.called.append(f"delete {key}")

    async def drop_everything(self, key: Any) -> None:
        self.called.append(f"drop {key}")


@pytest.mark.parametrize(
    "question",
    [
        {"what": "store", "method": "delete", "key": {}},
        {"what": "store", "method": "drop_everything", "key": {}},
        {"what": "store", "method": "__init__", "key": {}},
        {"what": "hook", "event": "Stop", "matcher": -1, "hook": 0, "input": {}, "tool_use_id": None},
        {"what": "hook", "event": "Stop", "matcher": 0, "hook": -1, "input": {}, "tool_use_id": None},
        {"what": "hook", "event": "Stop", "matcher": 0, "hook": 7, "input": {}, "tool_use_id": None},
        {"what": "hook", "event": "Start", "matcher": 0, "hook": 0, "input": {}, "tool_use_id": None},
        {"what": "mcp", "server": "other", "message": {}, "handshake": None},
        {"what": "can_use_tool", "tool_name": "Bash", "input": {}, "context": None},
        {"what": "eval", "code": "1"},
    ],
)
async def test_a_question_for_what_was_not_given_is_not_answered(
    question: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    answers: list[dict[str, Any]] = []
    ran: list[str] = []

    async def hook(*_: object) -> dict[str, Any]:
        ran.append("hook")
        return {}

    async def send(line: dict[str, Any]) -> None:
        answers.append(line)

    async def codec() -> Codec:
        return Codec({})

    callbacks = Callbacks(hooks={"Stop": [HookMatcher(hooks=[hook])]}, store=store)  # type: ignore[list-item] # a plain dict is an output
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            asked = Answers(callbacks, send=send, codec=codec, authority=ToolAuthority())
            asked.start(tasks)
            asked.request({"id": 1, **question}, size=0, values=0)
            asked.request({"id": 2, "what": "store", "method": "load", "key": KEY}, size=0, values=0)
            await until_true(lambda: answers)
            tasks.cancel_scope.cancel()
    assert [answer["id"] for answer in answers] == [2]
    assert store.called == [f"load {KEY}"]
    assert ran == []
    assert "which this process does not have" in caplog.text


@pytest.mark.parametrize(
    "key",
    [
        {"session_id": "s"},
        {**KEY, "session_id": "../other"},
        {**KEY, "project_key": ".."},
        {**KEY, "subpath": "subagents/../../x"},
        {**KEY, "subpath": "/etc"},
        {**KEY, "more": "x"},
        {**KEY, "session_id": 5},
        5,
        "a/b",
    ],
)
async def test_a_key_that_leads_elsewhere_reaches_no_store(key: Any) -> None:
    store = Store()
    answers: list[dict[str, Any]] = []

    async def send(line: dict[str, Any]) -> None:
        answers.append(line)

    async def codec() -> Codec:
        return Codec({})

    append: Any = None
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            asked = Answers(Callbacks(store=store), send=send, codec=codec, authority=ToolAuthority())
            asked.start(tasks)
            asked.request({"id": 1, "what": "store", "method": "load", "key": key}, size=0, values=0)
            append = asked.append({"seq": 1, "key": key, "entries": []}, 10)
            await until_true(lambda: answers)
            tasks.cancel_scope.cancel()
    assert not answers[0]["ok"]
    assert append.error is not None
    assert store.called == []


async def test_more_questions_at_once_than_any_agent_has_are_an_error() -> None:
    async def never(*_: object) -> Any:
        await anyio.sleep_forever()

    async def send(_: dict[str, Any]) -> None:
        raise NotImplementedError

    async def codec() -> Codec:
        return Codec({})

    async with anyio.create_task_group() as tasks:
        asked = Answers(Callbacks(can_use_tool=never), send=send, codec=codec, authority=ToolAuthority())
        asked.start(tasks)
        question: dict[str, Any] = {"what": "can_use_tool", "tool_name": "x", "input": {}, "context": None}
        with pytest.raises(AgentError, match="questions at once"):
            for number in range(1000):
                asked.request({"id": number, **question}, size=0, values=0)
        assert asked.open == 256
        tasks.cancel_scope.cancel()
