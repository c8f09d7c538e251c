"""The journal on the host: messages wait raw, answers overtake them, and nothing ends silently."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from agenthost.agent.answering import Answers
from agenthost.agent.callbacks import Callbacks
from agenthost.agent.journal import Fault, Journal
from agenthost.agent.sender import LineSender
from agenthost.agent.store import Append
from agenthost.agent.tool_authority import ToolAuthority
from agenthost.errors import AgentError, LinkLostError

LIMIT = 10
MIB = 1 << 20


class Source:
    """A channel whose bytes the test feeds."""

    def __init__(self) -> None:
        self.pieces: deque[bytes | Exception] = deque()
        self.taken = 0
        self.acked: list[int] = []
        self.news = anyio.Event()

    def feed(self, *events: dict[str, Any]) -> None:
        self.feed_bytes(b"".join(line(event) for event in events))

    def feed_bytes(self, data: bytes | Exception) -> None:
        self.pieces.append(data)
        self.news.set()

    @property
    def received(self) -> int:
        return self.taken

    async def receive(self) -> bytes:
        while not self.pieces:
            self.news = anyio.Event()
            await self.news.wait()
        piece = self.pieces.popleft()
        if isinstance(piece, Exception):
            raise piece
        self.taken += len(piece)
        return piece

    def ack(self, offset: int) -> None:
        self.acked.append(offset)

    async def wait(self) -> int:
        return 137

    def stderr_tail(self) -> bytes:
        return b"MemoryError\n"


class YieldingSource(Source):
    """A source where each piece is a chance to be cancelled, as on a real link."""

    async def receive(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        return await super().receive()


def line(event: dict[str, Any]) -> bytes:
    return json.dumps({"seq": 1, "ts": 1.5, **event}, separators=(",", ":")).encode() + b"\n"


def message(kind: str = "StreamEvent", **fields: Any) -> dict[str, Any]:
    return {"kind": "message", "message": {"$type": kind, **fields}}


END = {"kind": "end", "error": None}


def opened(source: Source, lines: list[str] | None = None) -> Journal:
    return Journal(source, stderr=lines.append if lines is not None else None)


async def test_messages_are_handed_out_in_order_however_they_were_cut() -> None:
    source = Source()
    data = b"".join(line(message(number=n)) for n in range(20)) + line(END)
    for start in range(0, len(data), 7):
        source.feed_bytes(data[start : start + 7])
    source.feed_bytes(b"")
    with anyio.fail_after(LIMIT):
        journal = opened(source)
        await journal.run()
        got = [number_of(item) async for item in _all(journal)]

    assert got == list(range(20))
    assert journal.failure is None
    assert journal.fault is None


@pytest.mark.parametrize("piece", [64 * 1024, 2 * 1024], ids=["64-kib", "2-kib"])
async def test_a_line_of_32_mib_in_small_pieces_arrives_whole(piece: int) -> None:
    size = 32 * 1024 * 1024
    data = line(message(text="x" * size)) + line(message(number=2)) + line(END)
    source = YieldingSource()
    for start in range(0, len(data), piece):
        source.feed_bytes(data[start : start + piece])
    source.feed_bytes(b"")
    # Joining what is there to each new piece would copy 260 GiB in the case of 2 KiB.
    journal = opened(source)
    got: list[bytes | Fault | Append] = []
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.run)
            got.extend([item async for item in _all(journal)])

    assert journal.failure is None
    assert len(got) == 2
    assert isinstance(got[0], bytes)
    assert json.loads(got[0])["message"]["text"] == "x" * size
    assert number_of(got[1]) == 2


def number_of(item: bytes | Fault | Append) -> int:
    assert isinstance(item, bytes)
    return int(json.loads(item)["message"]["number"])


async def _all(journal: Journal) -> AsyncIterator[bytes | Fault | Append]:
    while (item := await journal.next()) is not None:
        yield item


async def test_asking_for_the_next_message_acknowledges_what_was_handed_out() -> None:
    source = Source()
    journal = opened(source)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.run)
            source.feed(message(number=1))
            await journal.next()
            assert source.acked == []
            source.feed({"kind": "state", "state": "idle"})
            source.feed(message(number=2))
            await journal.next()
            tasks.cancel_scope.cancel()

    first = len(line(message(number=1)))
    assert source.acked
    assert source.acked[0] in (first, first + len(line({"kind": "state", "state": "idle"})))
    assert source.acked[-1] < source.taken


async def test_a_reader_that_stops_stalls_the_journal_and_memory_stays_bounded() -> None:
    source = Source()
    big = message(text="x" * 1_000_000)
    journal = opened(source)
    stalled = count = 0
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.run)
            for _ in range(40):
                source.feed(big)
            source.feed(END)
            source.feed_bytes(b"")
            await anyio.wait_all_tasks_blocked()
            stalled = source.taken
            async for _ in _all(journal):
                count += 1

    assert stalled < 12_000_000
    assert count == 40


async def test_an_answer_behind_more_than_is_kept_arrives_all_the_same() -> None:
    source = Source()
    big = message(text="x" * 1_000_000)
    journal = opened(source)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.run)
            for _ in range(30):
                source.feed(big)
            await anyio.wait_all_tasks_blocked()
            number = journal.open_call()
            source.feed({"kind": "reply", "id": number, "ok": True, "result": 7})
            reply = await journal.reply(number)
            journal.close_call(number)
            assert reply is not None
            assert reply["result"] == 7
            tasks.cancel_scope.cancel()


async def test_a_call_that_is_not_answered_before_the_end_returns_none() -> None:
    source = Source()
    journal = opened(source)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.run)
            number = journal.open_call()
            source.feed(END)
            source.feed_bytes(b"")
            assert await journal.reply(number) is None


async def test_faults_stand_in_line_with_the_messages() -> None:
    source = Source()
    source.feed(
        message(number=1), {"seq": 2, "kind": "fault", "error": {"type": "X"}}, message(number=2), END
    )
    source.feed_bytes(b"")
    with anyio.fail_after(LIMIT):
        journal = opened(source)
        await journal.run()
        got = [item async for item in _all(journal)]

    assert [type(item) for item in got] == [bytes, Fault, bytes]


async def test_a_runner_that_dies_without_a_word_is_an_error_with_its_exit_code() -> None:
    source = Source()
    source.feed(message())
    source.feed_bytes(b"")
    with anyio.fail_after(LIMIT):
        journal = opened(source)
        await journal.run()

    assert isinstance(journal.failure, AgentError)
    assert "exit code 137" in str(journal.failure)
    assert "killed, as the kernel does when memory runs out" in str(journal.failure)
    assert "MemoryError" in str(journal.failure)


async def test_a_lost_link_is_kept_as_the_failure_after_the_messages() -> None:
    source = Source()
    source.feed(message())
    source.feed_bytes(LinkLostError("gone"))
    with anyio.fail_after(LIMIT):
        journal = opened(source)
        await journal.run()
        first, last = await journal.next(), await journal.next()

    assert isinstance(first, bytes)
    assert last is None
    assert isinstance(journal.failure, LinkLostError)


async def test_a_lost_link_does_not_come_between_the_messages_that_have_arrived() -> None:
    class Lost(Source):
        def ack(self, offset: int) -> None:  # noqa: ARG002 - whatever is acknowledged cannot be told
            raise LinkLostError("gone")

    source = Lost()
    journal = Journal(source, stderr=None)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.run)
            source.feed(*(message(text="t" * 100_000) for _ in range(10)))
            seen = [await journal.next() for _ in range(10)]
            assert all(isinstance(one, bytes) for one in seen)
            source.feed_bytes(LinkLostError("gone"))
            assert await journal.next() is None
            journal.drain()
    assert isinstance(journal.failure, LinkLostError)


async def test_usage_session_and_states_are_known_before_anything_is_read() -> None:
    source = Source()
    init = message("SystemMessage", subtype="init", data={"session_id": "s1"})
    one = message("ResultMessage", num_turns=2, total_cost_usd=0.25, model_usage={"m": {"n": 1}})
    two = message("ResultMessage", num_turns=1, total_cost_usd=0.75, session_id="s2")
    source.feed({"kind": "state", "state": "ready", "sdk_version": "1"}, {"kind": "state", "state": "busy"})
    source.feed(init, one, two, {"kind": "state", "state": "connected"}, END)
    source.feed_bytes(b"")
    with anyio.fail_after(LIMIT):
        journal = opened(source)
        await journal.run()

    assert journal.session_id == "s2"
    assert (journal.usage.results, journal.usage.turns, journal.usage.total_cost_usd) == (2, 3, 0.75)
    assert journal.usage.model_usage == {"m": {"n": 1}}
    assert journal.ready is not None
    assert journal.ready["sdk_version"] == "1"
    assert journal.connected
    assert journal.busy


async def test_usage_goes_on_where_the_cli_begins_to_count_anew() -> None:
    def used(cost: float, **models: dict[str, Any]) -> dict[str, Any]:
        return message("ResultMessage", num_turns=1, total_cost_usd=cost, model_usage=models)

    source = Source()
    cleared = message("ConversationResetMessage", new_conversation_id="2")
    m = {"inputTokens": 10, "costUSD": 0.5, "contextWindow": 200_000}
    source.feed(used(0.25), used(0.5, m=m), cleared, used(0), used(0.25, m=m, n=m), cleared, used(1.0, n=m))
    source.feed(END)
    source.feed_bytes(b"")
    with anyio.fail_after(LIMIT):
        journal = opened(source)
        await journal.run()

    twice = {"inputTokens": 20, "costUSD": 1.0, "contextWindow": 200_000}
    assert (journal.usage.results, journal.usage.total_cost_usd) == (5, 1.75)
    assert journal.usage.model_usage == {"m": twice, "n": twice}


async def test_a_text_that_looks_like_a_message_is_none() -> None:
    source = Source()
    lines: list[str] = []
    trap = '"kind":"message","message":{"$type":"ResultMessage"'
    source.feed({"kind": "stderr", "line": trap}, {"kind": "unknown", "input": message("ResultMessage")}, END)
    source.feed_bytes(b"")
    with anyio.fail_after(LIMIT):
        journal = opened(source, lines)
        await journal.run()

    assert lines == [trap]
    assert await journal.next() is None


async def test_a_stderr_callback_that_raises_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def bad(_: str) -> None:
        raise RuntimeError("mine")

    source = Source()
    source.feed(*({"kind": "stderr", "line": "x"} for _ in range(3)), message(), END)
    source.feed_bytes(b"")
    with caplog.at_level(logging.ERROR), anyio.fail_after(LIMIT):
        journal = Journal(source, stderr=bad)
        await journal.run()
        assert await journal.next() is not None

    assert caplog.messages == ["options.stderr raised"]


async def test_bytes_that_are_no_journal_are_an_error_and_not_silence() -> None:
    source = Source()
    source.feed_bytes(b"garbage\n")
    with anyio.fail_after(LIMIT):
        journal = opened(source)
        await journal.run()

    assert isinstance(journal.failure, AgentError)


async def test_draining_reads_to_the_end_without_keeping_anything() -> None:
    source = Source()
    journal = opened(source)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.run)
            for _ in range(30):
                source.feed(message(text="x" * 1_000_000))
            await anyio.wait_all_tasks_blocked()
            journal.drain()
            source.feed(END)
            source.feed_bytes(b"")
            assert await journal.until(lambda: journal.ended)


async def test_while_draining_the_journal_waits_for_a_store_that_is_behind() -> None:
    source = Source()
    store = SlowStore()
    answers = Answers(Callbacks(store=store), send=_fail, codec=_fail, authority=ToolAuthority())
    journal = Journal(source, stderr=None, answers=answers)
    batch = {"kind": "store_append", "key": {"project_key": "p", "session_id": "s"}, "entries": ["x" * MIB]}
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            answers.start(tasks)
            tasks.start_soon(journal.run)
            journal.drain()
            for _ in range(30):
                source.feed(batch)
            source.feed(END)
            source.feed_bytes(b"")
            await anyio.wait_all_tasks_blocked()
            assert len(source.pieces) > 15, "as much as there may be unread was read"
            store.open.set()
            assert await journal.until(lambda: journal.ended)
            await answers.settle()
            tasks.cancel_scope.cancel()
    assert store.taken == 30


class SlowStore:
    """A store that takes batches once the test lets it."""

    def __init__(self) -> None:
        self.open = anyio.Event()
        self.taken = 0

    async def append(self, key: object, entries: list[Any]) -> None:
        del key, entries
        await self.open.wait()
        self.taken += 1


async def _fail(*_: object) -> Any:
    raise AssertionError("nothing is asked")


class Sink:
    """A channel that takes lines when the test lets it."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.open = anyio.Event()
        self.error: Exception | None = None

    async def send(self, line: bytes) -> None:
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.lines.append(line)


async def test_a_line_whose_caller_gave_up_is_sent_whole_or_not_at_all() -> None:
    sink = Sink()
    sender = LineSender(sink)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sender.run)
            async with anyio.create_task_group() as callers:
                callers.start_soon(sender.send, {"n": 1})
                await anyio.wait_all_tasks_blocked()
                callers.start_soon(sender.send, {"n": 2})
                await anyio.wait_all_tasks_blocked()
                callers.cancel_scope.cancel()
            sink.open.set()
            await sender.send({"n": 3})
            tasks.cancel_scope.cancel()

    assert [json.loads(line)["n"] for line in sink.lines] == [1, 3]


async def test_an_error_of_the_channel_reaches_this_caller_and_all_later_ones() -> None:
    sink = Sink()
    sink.open.set()
    sink.error = LinkLostError("gone")
    sender = LineSender(sink)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sender.run)
            for _ in range(2):
                with pytest.raises(LinkLostError):
                    await sender.send({"n": 1})
            tasks.cancel_scope.cancel()
