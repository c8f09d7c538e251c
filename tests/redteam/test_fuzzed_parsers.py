"""Whatever is written inside, a parser of the host answers with a value or with an error of agenthost's.

A small sample by itself; ``--schedules N`` tries N cases for each parser.
"""
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio
import claude_agent_sdk
import pytest
from agent.test_journal import Source
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.deep_runs import count_of

from agenthost.agent import messages
from agenthost.agent.answering import Answers
from agenthost.agent.callbacks import Callbacks
from agenthost.agent.errors import rebuild, rebuild_refusal
from agenthost.agent.journal import Fault, Journal
from agenthost.agent.messages import decode_message, read_reply
from agenthost.agent.sdk import sdk_codec
from agenthost.agent.store import Append
from agenthost.agent.tool_authority import ToolAuthority
from agenthost.errors import AgentHostError
from agenthost.files import entries, program
from agenthost.guest import model
from agenthost.guest.http.request import BadRequestError, Body, parse_head
from agenthost.link.agents import agent_status
from agenthost.link.answers import call_error, reading
from agenthost.wire.codec import CodecError, UnknownObject
from agenthost.wire.json_bounds import JsonBoundsError, check_values, values_at_most

LIMIT = 120
SDK = claude_agent_sdk
CODEC = sdk_codec(SDK)
SANDBOX: Any = SimpleNamespace(name="fuzzed")

# ---- what is tried

_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["$type", "KeyError", "x" * 2000, "\ud800", "9" * 400, "../..", "ConfigError"])
)
_marks = st.sampled_from(
    ["$type", "$map", "$tuple", "$bytes", "$path", "$float", "$int", "$str", "$$a", "$x"]
)
_keys = (
    st.text(max_size=6) | _marks | st.sampled_from(["type", "id", "kind", "message", "error", "result", "ok"])
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)

_MESSAGE = {"$type": "AssistantMessage", "content": [{"$type": "TextBlock", "text": "x"}], "model": "m"}
_RESULT = {
    "$type": "ResultMessage",
    "subtype": "success",
    "num_turns": 1,
    "session_id": "s",
    "total_cost_usd": 0.1,
}
_USAGE: dict[str, Any] = {
    "model_usage": {"m": {"inputTokens": 1}},
    "duration_ms": 1,
    "duration_api_ms": 1,
    "is_error": False,
}
EVENTS: list[dict[str, Any]] = [
    {"kind": "message", "message": _MESSAGE},
    {"kind": "message", "message": {**_RESULT, **_USAGE}},
    {
        "kind": "message",
        "message": {"$type": "SystemMessage", "subtype": "init", "data": {"session_id": "s"}},
    },
    {"kind": "message", "message": {"$type": "ConversationResetMessage"}},
    {"kind": "stderr", "line": "x", "dropped": 1},
    {"kind": "reply", "id": 1, "ok": True, "result": {"a": 1}},
    {"kind": "reply", "id": 1, "ok": False, "error": {"type": "ProcessError", "bases": [], "message": "m"}},
    {"kind": "state", "state": "ready", "sdk_version": "1"},
    {"kind": "state", "state": "attached", "connected": True, "busy": False, "session_id": "s", "epoch": 1},
    {
        "kind": "fault",
        "error": {"type": "CLIJSONDecodeError", "bases": ["Exception"], "message": "m", "line": "x"},
    },
    {"kind": "request", "id": 1, "what": "can_use_tool", "tool_name": "Bash", "input": {}, "context": None},
    {"kind": "request", "id": 2, "what": "hook", "event": "PreToolUse", "matcher": 0, "hook": 0, "input": {}},
    {"kind": "request", "id": 3, "what": "mcp", "server": "s", "message": {"method": "x"}, "handshake": None},
    {
        "kind": "request",
        "id": 4,
        "what": "store",
        "method": "load",
        "key": {"project_key": "p", "session_id": "s"},
    },
    {"kind": "request_cancelled", "id": 1},
    {"kind": "answered", "id": 1},
    {"kind": "answer_refused", "id": 1},
    {"kind": "store_append", "key": {"project_key": "p", "session_id": "s"}, "entries": [{"a": 1}]},
    {"kind": "end", "error": None},
]
STATUS = {"agent": "a", "pid": 1, "exit_code": None, "driven": True, "model": True, "journal": [0, 1]}
INFO = {"path": "a", "kind": "file", "size": 1, "mode": 420, "mtime": 1.5, "link": None}


@st.composite
def spoilt(draw: st.DrawFn, honest: list[Any]) -> Any:
    """Honest values of which a part or two are anything, or are missing."""
    value = copy.deepcopy(draw(st.sampled_from(honest)))
    for _ in range(draw(st.integers(0, 2))):
        places: list[tuple[Any, Any]] = []
        waiting = [value]
        while waiting:
            node = waiting.pop()
            keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
            places += [(node, key) for key in keys]
            waiting += [node[key] for key in keys if isinstance(node[key], dict | list)]
        if not places:
            return draw(_values)
        node, key = draw(st.sampled_from(places))
        if draw(st.integers(0, 3)) == 0:
            del node[key]
        else:
            node[key] = draw(_values)
    return value


def _line(event: dict[str, Any], number: int) -> bytes:
    return json.dumps({"seq": number, "ts": 1.5, **event}, separators=(",", ":")).encode() + b"\n"


@st.composite
def journals(draw: st.DrawFn) -> bytes:
    """The bytes of a journal: spoilt events, cut and broken."""
    lines = [_line(draw(spoilt(EVENTS)), number) for number in range(1, draw(st.integers(1, 6)) + 1)]
    data = b"".join(lines)
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=8)) + data[at + draw(st.integers(0, 8)) :]
    return data


def fuzz(request: pytest.FixtureRequest, strategy: Any, check: Callable[[Any], None]) -> None:
    """Try a check on as many values as this run is asked for."""
    examples = count_of(request.config, "--schedules", normal=20, full=60)
    chosen = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
    )
    chosen(given(value=strategy)(lambda value: check(value)))()


# ---- the agent's journal


def read_journal(data: bytes) -> None:
    """Read a journal and its messages, as a host with every kind of callback does."""

    async def anything(*_: Any) -> Any:
        return None

    async def codec() -> Any:
        return CODEC

    async def read() -> None:
        source = Source()
        half = len(data) // 2
        for piece in (data[:half], data[half:], b""):
            if piece or piece is data[half:]:
                source.feed_bytes(piece)
        source.feed_bytes(b"")
        callbacks = Callbacks(
            can_use_tool=anything,
            hooks={"PreToolUse": [SimpleNamespace(hooks=[anything], timeout=None)]},
            store=SimpleNamespace(append=anything, load=anything),
        )
        answers = Answers(callbacks, send=anything, codec=codec, authority=ToolAuthority())
        journal = Journal(source, stderr=lambda _line: None, answers=answers)
        life: Any = SimpleNamespace(sdk=SDK, codec=CODEC)
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                answers.start(tasks)
                number = journal.open_call()
                await journal.run()
                reply = await journal.reply(number)
                if reply is not None:
                    _reply(reply, life)
                while (item := await journal.next()) is not None:
                    _typed(_message, item, life)
                tasks.cancel_scope.cancel()
        assert journal.failure is None or isinstance(journal.failure, AgentHostError)
        if journal.fault is not None:
            assert isinstance(rebuild(journal.fault, SDK, CODEC), Exception)

    anyio.run(read)


def _message(item: bytes | Fault | Append, life: Any) -> object:
    if isinstance(item, Append):
        return messages._read(item.message, SDK)
    if isinstance(item, Fault):
        return rebuild(item.error, SDK, CODEC)
    message = messages._read(decode_message, item, life)
    assert isinstance(message, UnknownObject) or type(message).__module__.startswith("claude_agent_sdk")
    return message


def _typed(call: Callable[..., object], *arguments: object) -> None:
    try:
        call(*arguments)
    except (AgentHostError, SDK.ClaudeSDKError):
        return


def _reply(reply: Any, life: Any) -> None:
    try:
        read_reply(reply, life)
    except (AgentHostError, SDK.ClaudeSDKError):
        return
    except (TypeError, ValueError) as error:
        # The agent may say that the caller of a method gave it a wrong argument.
        if reply["error"]["type"] != type(error).__name__:
            raise


def test_any_journal_is_read_or_ends_with_a_typed_error(request: pytest.FixtureRequest) -> None:
    fuzz(request, journals(), read_journal)


def test_any_error_from_inside_becomes_an_exception(request: pytest.FixtureRequest) -> None:
    fault = {
        "type": "ProcessError",
        "bases": ["ClaudeSDKError"],
        "message": "m",
        "exit_code": 1,
        "stderr": "x",
    }

    def check(value: Any) -> None:
        found = rebuild(value, SDK, CODEC)
        assert isinstance(found, AgentHostError | SDK.ClaudeSDKError)
        str(found)
        assert isinstance(rebuild_refusal(value, SDK, CODEC), Exception)

    fuzz(request, spoilt([fault]) | _values, check)


def test_any_encoded_value_is_decoded_or_a_codec_error(request: pytest.FixtureRequest) -> None:
    def check(value: Any) -> None:
        try:
            CODEC.decode(json.loads(json.dumps(value)))
        except CodecError:
            return

    fuzz(request, spoilt([event["message"] for event in EVENTS if "message" in event]) | _values, check)


# ---- the guest's answers, and those of the file program


def test_any_answer_of_a_guest_is_read_or_a_typed_error(request: pytest.FixtureRequest) -> None:
    def check(value: Any) -> None:
        assert isinstance(call_error(value), AgentHostError | OSError)
        try:
            with reading("an answer"):
                agent_status(value)
        except AgentHostError:
            return

    refusal = {"type": "OSError", "errno": 2, "message": "m", "path": "p"}
    fuzz(request, spoilt([STATUS, refusal, {**refusal, "type": "Taken"}]) | _values, check)


def test_any_answer_of_the_file_program_is_read_or_a_typed_error(request: pytest.FixtureRequest) -> None:
    def check(value: Any) -> None:
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        for read in (
            lambda: entries._info(program.read_answer(SANDBOX, text)),
            lambda: program.items_of(program.read_answer(SANDBOX, text)),
            lambda: program.raise_failure(SANDBOX, text, 1),
        ):
            try:
                read()
            except (AgentHostError, OSError):
                continue

    failure = {"errno": 2, "text": "t", "path": "p"}
    fuzz(request, spoilt([INFO, failure, {"refused": "x"}]) | _values | st.binary(max_size=60), check)


# ---- JSON


def _counted(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_counted, inner))


def test_json_is_refused_by_the_number_of_its_values_and_by_nothing_else(
    request: pytest.FixtureRequest,
) -> None:
    def check(case: tuple[Any, int, str]) -> None:
        value, width, text = case
        value = [value, *[text] * width]
        encoded = json.dumps(value, separators=(",", ":")).encode()
        # An empty container counts as one more than its values.
        most = _counted(value)
        check_values(encoded, most=2 * most)
        assert values_at_most(encoded) >= most // 2
        if width > 20:
            with pytest.raises(JsonBoundsError):
                check_values(encoded, most=width // 4)

    texts = st.text(alphabet='",[]{}\\\n:a', max_size=40)
    fuzz(request, st.tuples(_values, st.integers(0, 600), texts), check)


# ---- what the agent's programs send to the guest


def test_any_request_to_the_models_port_is_read_or_refused(request: pytest.FixtureRequest) -> None:
    head = b"POST /v1/messages HTTP/1.1\r\nx-api-key: k\r\ncontent-length: 2\r\n\r\n"

    def check(case: tuple[int, int, bytes]) -> None:
        at, cut, junk = case
        data = head[:at] + junk + head[at + cut :]
        if not data.endswith(b"\r\n\r\n"):
            data += b"\r\n\r\n"
        try:
            _, _, headers = model._parse_head(data)
            model._length(headers)
        except model.BadRequestError:
            return

    fuzz(request, st.tuples(st.integers(0, len(head)), st.integers(0, 20), st.binary(max_size=20)), check)


def test_any_request_to_the_http_port_is_read_or_refused(request: pytest.FixtureRequest) -> None:
    head = b"POST /v1/up?carrier=a&batch=1 HTTP/1.1\r\nx-agenthost-token: t\r\ntransfer-encoding: chunked"

    def check(case: tuple[int, int, bytes, bytes]) -> None:
        at, cut, junk, body = case
        try:
            parsed = parse_head(head[:at] + junk + head[at + cut :])
            parsed.number("batch")
            Body(parsed.length).feed(bytearray(body))
            Body(None).feed(bytearray(b"3\r\nabc\r\n" + body))
        except BadRequestError:
            return

    place = st.tuples(
        st.integers(0, len(head)), st.integers(0, 20), st.binary(max_size=20), st.binary(max_size=40)
    )
    fuzz(request, place, check)
