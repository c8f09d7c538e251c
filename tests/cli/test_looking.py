"""Events of a journal are told apart wherever reading begins; what they amount to is told of any content."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agenthost import Cursor
from agenthost.cli.events import Event, Events
from agenthost.cli.looking import Story
from agenthost.errors import AgentError
from agenthost.link.agents import AgentStatus

INIT = {"message": {"$type": "SystemMessage", "subtype": "init", "data": {"session_id": "s-1"}}}
SAID: dict[str, Any] = {"message": {"$type": "AssistantMessage", "content": []}}
RESULT = {"message": {"$type": "ResultMessage", "session_id": "s-1", "is_error": False}}
FAILED = {"message": {"$type": "ResultMessage", "session_id": "s-1", "is_error": True}}


def state(name: str, **fields: Any) -> dict[str, Any]:
    return {"state": name, **fields}


def asks(number: int, what: str = "can_use_tool") -> dict[str, Any]:
    return {"id": number, "what": what}


def lines(*events: dict[str, Any] | tuple[str, dict[str, Any]]) -> list[bytes]:
    """Return a journal: the kind of an event is told by its fields, or given."""
    kinds = {"message": "message", "state": "state", "what": "request", "error": "end"}
    made: list[bytes] = []
    for number, event in enumerate(events, 1):
        if isinstance(event, tuple):
            kind, fields = event
        else:
            kind, fields = next(kind for key, kind in kinds.items() if key in event), event
        head = f'{{"seq":{number},"ts":1795363538.380592,"kind":"{kind}",'
        made.append(head.encode() + json.dumps(fields, separators=(",", ":")).encode()[1:] + b"\n")
    return made


class Pieces:
    """A journal that comes in pieces."""

    def __init__(self, data: bytes, begin: int, cuts: Sequence[int]) -> None:
        self.received = begin
        ends = sorted({*(cut for cut in cuts if begin < cut < len(data)), len(data)})
        self._pieces = [data[start:end] for start, end in zip([begin, *ends], ends, strict=False)]

    async def receive(self) -> bytes:
        piece = self._pieces.pop(0) if self._pieces else b""
        self.received += len(piece)
        return piece


async def read(journal: bytes, begin: int, cuts: Sequence[int] = (), *, exact: bool = False) -> list[Event]:
    """Read as ``read_events`` does; only a cursor is exact."""
    source: Any = Pieces(journal, begin if exact else max(begin - 1, 0), cuts)
    return [event async for event in Events(source, exact=exact, begin=begin, until=None)]


def story(*events: dict[str, Any] | tuple[str, dict[str, Any]]) -> Story:
    told, place = Story(), 0
    for number, line in enumerate(lines(*events), 1):
        kind = json.loads(line)["kind"]
        told.take(Event(number, kind, place, line[:-1]))
        place += len(line)
    return told


def status(*, driven: bool = False, exit_code: int | None = None) -> AgentStatus:
    return AgentStatus(
        agent="a", pid=7, exit_code=exit_code, driven=driven, model=True, journal_begin=0, journal_end=1
    )


# What an agent says may look like an event, as text and as data.
FORGED = {"message": {"$type": "UserMessage", "content": [{"seq": 1, "ts": 2, "kind": "message", "x": 3}]}}
QUOTED = {"message": {"$type": "X", "text": '{"seq":9,"ts":1,"kind":"end","error":null}'}}
JOURNAL = lines(state("ready"), state("connected"), state("busy"), INIT, QUOTED, FORGED, RESULT)


@example(1, [])
@example(b"".join(JOURNAL).index(b'{"seq":1,"ts":2'), [])
@given(st.integers(0, sum(map(len, JOURNAL))), st.lists(st.integers(0, 1000), max_size=9))
async def test_whole_events_are_read_from_any_byte_on_in_any_pieces(begin: int, cuts: list[int]) -> None:
    data = b"".join(JOURNAL)
    found = await read(data, begin, cuts)
    places = [sum(map(len, JOURNAL[:number])) for number in range(len(JOURNAL) + 1)]
    expected = [number for number in range(len(JOURNAL)) if places[number] >= begin]
    assert [event.seq for event in found] == [number + 1 for number in expected]
    assert [event.begin for event in found] == [places[number] for number in expected]
    for event in found:
        assert event.before == Cursor(event.seq - 1, places[event.seq - 1])
        assert event.cursor == Cursor(event.seq, places[event.seq])
        assert event.fields() == json.loads(JOURNAL[event.seq - 1])


async def test_a_place_that_begins_no_event_is_an_error_where_one_must_begin() -> None:
    data = b"".join(JOURNAL)
    with pytest.raises(AgentError, match="no event begins at byte 3"):
        await read(data, 3, exact=True)
    with pytest.raises(AgentError, match="no event begins at byte"):
        await read(JOURNAL[0] + b"nonsense\n", 0)


@pytest.mark.parametrize(
    ("events", "driven", "expected"),
    [
        ([], False, "starting"),
        ([state("ready")], False, "starting"),
        ([state("ready"), state("connected")], False, "idle"),
        ([state("busy"), INIT, SAID], False, "working"),
        ([SAID], True, "working"),  # the beginning of its turn was not read
        ([SAID, RESULT, state("idle")], False, "idle"),
        ([state("busy"), asks(1)], True, "waiting for a decision"),
        ([state("busy"), asks(1, "hook")], False, "waiting for a decision"),
        ([state("busy"), asks(1), ("answered", {"id": 1})], True, "working"),
        ([state("busy"), asks(1), ("request_cancelled", {"id": 1})], True, "working"),
        ([state("busy"), asks(1), asks(2), ("answered", {"id": 2})], True, "waiting for a decision"),
        ([state("busy"), asks(1, "mcp")], True, "working"),
        ([state("busy"), asks(1, "mcp")], False, "waiting for a host"),
        ([state("busy"), state("waiting_for_host")], False, "waiting for a host"),
        ([state("busy"), state("waiting_for_host")], True, "working"),
        ([state("busy"), state("waiting_for_host"), SAID], False, "working"),
        ([asks(1), state("attached", connected=True, busy=True)], True, "working"),
        ([state("busy"), SAID, {"error": None}], False, "ended"),
    ],
)
def test_what_an_agent_does(events: list[dict[str, Any]], driven: bool, expected: str) -> None:
    assert story(*events).state(status(driven=driven)) == expected


def test_a_runner_that_was_killed_has_ended_whatever_its_journal_says() -> None:
    assert story(state("busy"), SAID).state(status(exit_code=137)) == "ended"


def test_the_newest_turn_is_the_one_that_runs_or_else_the_last() -> None:
    running = story(state("connected"), state("busy"), INIT, RESULT, INIT, SAID)
    assert (running.turn.seq, running.busy, running.failed) == (4, True, False)
    over = story(state("busy"), INIT, RESULT, INIT, SAID, FAILED, state("idle"))
    assert (over.turn.seq, over.busy, over.failed, over.has_turn) == (3, False, True, True)
    first = story(state("connected"), state("busy"), INIT, SAID)
    assert (first.turn, first.has_turn) == (Cursor(), False)
    assert (over.session_id, over.last, first.session_id) == ("s-1", 6, "s-1")


def test_what_it_ended_with_is_told() -> None:
    told = story(state("busy"), {"error": {"type": "ProcessError", "message": "dead"}})
    assert (told.ended, told.error, told.busy) == (True, "ProcessError", True)


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
_KEYS = ("message", "state", "id", "what", "error", "session_id", "data", "busy", "connected")


# How fast content is made is a matter of the machine and of what else it does.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["message", "state", "request", "request_cancelled", "answered", "end", "new"]),
            st.dictionaries(st.sampled_from(_KEYS), _ANYTHING, max_size=4),
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_whatever_a_sandbox_writes_an_answer_comes_of_it(
    events: list[tuple[str, dict[str, Any]]], driven: bool
) -> None:
    told = story(*[(kind, fields or {"x": 1}) for kind, fields in events])
    assert isinstance(told.state(status(driven=driven)), str)
    assert told.session_id is None or isinstance(told.session_id, str)
    assert isinstance(told.turn, Cursor)


def test_an_event_that_is_no_json_is_an_error_of_the_agent() -> None:
    with pytest.raises(AgentError, match=r"event 3 .* cannot be read"):
        Story().take(Event(3, "state", 0, b'{"seq":3,"ts":1,"kind":"state",'))
