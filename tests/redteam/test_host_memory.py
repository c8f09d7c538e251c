"""What a sandbox sends does not decide how much memory of the host it takes, nor how much of its disk."""
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import contextlib
import logging
import tracemalloc
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from agent.test_journal import Source, line
from redteam.hostile_guest import Frame, Frames, HostileGuest, answered, data, end
from wire.simulation.pair import HandMadeGuest, hello, make_host

from agenthost import log_once
from agenthost.agent import answering, journal
from agenthost.agent.answering import Answers
from agenthost.agent.callbacks import Callbacks
from agenthost.agent.journal import Journal
from agenthost.agent.tool_authority import ToolAuthority
from agenthost.errors import AgentError, FileTooLargeError, SandboxError
from agenthost.files import program as file_program
from agenthost.link import client, files, pieces
from agenthost.link.channel import AgentChannel, Exchange
from agenthost.link.client import GuestSandbox
from agenthost.link.pieces import Pieces
from agenthost.link.session import Session
from agenthost.log_once import LogOnce
from agenthost.providers.local.provider import LocalProvider
from agenthost.spec import SandboxSpec
from agenthost.testing import FakeProvider
from agenthost.wire import frames, host, json_bounds, peer
from agenthost.wire.codec import Codec
from agenthost.wire.frames import ProtocolError
from agenthost.wire.tokens import CONTROL, DRIVER

LIMIT = 60
KIB, MIB = 1024, 1024 * 1024

attack, control = pytest.mark.attack, pytest.mark.control
TAKES_MEMORY = "take the host's memory"
FILLS_DISK = "fill the host's disk"


@contextmanager
def peak() -> Generator[Callable[[], int]]:
    """Yield a function that returns the most bytes of Python's objects that were held at once."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield lambda: tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


# ---- files


def file_of(size: int, *, announced: int | None = None) -> HostileGuest:
    """Return a guest whose every file has so many bytes, or another number by its word."""
    piece = bytes(256 * KIB)

    def stream(sid: str) -> Frames:
        if sid.startswith("f/"):
            for offset in range(0, min(size, 2 * MIB), len(piece)):  # what there is credit for
                yield data(sid, offset, piece)
            yield end(sid, min(size, 2 * MIB))

    def call(frame: Frame) -> Frames:
        yield answered(frame, {"size": size if announced is None else announced})

    return HostileGuest(call, stream)


async def read(guest: HostileGuest, bound: int) -> int:
    """Return how many bytes of a file the host has held."""
    async with guest.sandbox() as sandbox:
        with anyio.fail_after(LIMIT):
            return len(await sandbox.read_file("file", max_bytes=bound))


@attack(TAKES_MEMORY, "a file larger than the host asked for")
async def test_a_file_above_the_bound_is_refused_by_its_size() -> None:
    with pytest.raises(FileTooLargeError, match=rf"{2 * MIB} bytes, above max_bytes={MIB}; .*open_file"):
        await read(file_of(2 * MIB), MIB)


@control("a file larger than the host asked for")
async def test_without_the_bound_the_whole_file_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.open_file
    monkeypatch.setattr(client, "open_file", lambda session, path, **_: real(session, path))
    assert await read(file_of(2 * MIB), MIB) == 2 * MIB


@attack(TAKES_MEMORY, "more bytes of a file than its announced size")
async def test_bytes_beyond_the_announced_size_of_a_file_are_not_held() -> None:
    assert await read(file_of(2 * MIB, announced=100 * KIB), MIB) == 100 * KIB


@control("more bytes of a file than its announced size")
async def test_without_the_count_all_that_is_sent_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_all(self: Any) -> bytes:
        parts: list[Any] = []
        self._flow.sink = parts.append
        await self._flow.wait_ended()
        return b"".join(parts)

    monkeypatch.setattr(files.RemoteFile, "read", read_all)
    assert await read(file_of(2 * MIB, announced=100 * KIB), MIB) == 2 * MIB


async def test_a_large_file_is_read_in_pieces_of_which_few_wait() -> None:
    async with file_of(2 * MIB).sandbox() as sandbox, sandbox.open_file("file") as file:
        with anyio.fail_after(LIMIT):
            assert sum([len(piece) async for piece in file]) == file.size == 2 * MIB


@pytest.fixture(scope="module")
async def box(anyio_backend: str) -> AsyncIterator[GuestSandbox]:
    """Give a sandbox of the provider ``local``."""
    del anyio_backend
    async with LocalProvider() as opened:
        sandbox = await opened.create(SandboxSpec())
        try:
            yield sandbox
        finally:
            await sandbox.terminate()


async def inside(sandbox: GuestSandbox, program: str) -> None:
    """Run a line of Python inside: not every image has a truncate."""
    result = await sandbox.exec([sandbox.layout.python, "-c", program])
    assert result.exit_code == 0, result.stderr


async def refuses_a_sparse_file(sandbox: GuestSandbox) -> None:
    """Read a file of 1.5 GB that takes no room inside."""
    await inside(sandbox, "open('huge', 'wb').truncate(1500 << 20)")
    try:
        with peak() as held, pytest.raises(FileTooLargeError, match=str(1500 * MIB)):
            await sandbox.read_file("huge")
        assert held() < MIB
    finally:
        await inside(sandbox, "import os; os.remove('huge')")


@attack(TAKES_MEMORY, "a sparse file larger than memory")
async def test_a_sparse_file_is_refused_by_its_size(box: GuestSandbox) -> None:
    await refuses_a_sparse_file(box)


@pytest.mark.full  # it holds 80 MiB
@control("a sparse file larger than memory")
async def test_without_the_bound_a_sparse_file_is_held(
    box: GuestSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.open_file
    monkeypatch.setattr(client, "open_file", lambda session, path, **_: real(session, path))
    await inside(box, "open('huge', 'wb').truncate(80 << 20)")
    assert len(await box.read_file("huge")) == 80 * MIB > files.MAX_BYTES
    await inside(box, "import os; os.remove('huge')")


# ---- streams

BYTES = 2000


def printing_bytes() -> HostileGuest:
    """Return a guest whose programs print byte by byte, each in a frame of its own."""

    def stream(sid: str) -> Frames:
        if sid.endswith("/out"):
            for offset in range(BYTES):
                yield data(sid, offset, b"x")
        yield end(sid, BYTES if sid.endswith("/out") else 0)

    def call(frame: Frame) -> Frames:
        yield answered(frame, {"pid": 1} if frame["m"] == "start" else 0)

    return HostileGuest(call, stream)


async def parts_of_an_exec(monkeypatch: pytest.MonkeyPatch) -> int:
    """Return of how many objects the output of a program consists before it is put together."""
    counts: list[int] = []
    joined = Pieces.joined

    def counted(self: Any) -> bytes:
        counts.append(len(self._parts))
        return joined(self)

    monkeypatch.setattr(Pieces, "joined", counted)
    async with printing_bytes().sandbox() as sandbox:
        with anyio.fail_after(LIMIT):
            assert (await sandbox.exec(["true"])).stdout == b"x" * BYTES
    return max(counts)


@attack(TAKES_MEMORY, "a stream in frames of one byte")
async def test_a_stream_of_small_frames_takes_the_memory_of_its_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await parts_of_an_exec(monkeypatch) == 1


@control("a stream in frames of one byte")
async def test_without_joining_each_frame_keeps_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    def append(self: Any, piece: Any) -> None:
        self._parts.append(piece)

    monkeypatch.setattr(Pieces, "append", append)
    assert await parts_of_an_exec(monkeypatch) == BYTES


def origins() -> int:
    """Return how many bytes 64 views keep, each of 8 KiB, of portions of 256 KiB."""
    pieces = Pieces()
    for _ in range(64):
        pieces.append(memoryview(bytes(256 * KIB))[: 8 * KIB])
    return sum(
        memoryview(part.obj if isinstance(part, memoryview) else part).nbytes for part in pieces._parts
    )


@attack(TAKES_MEMORY, "padding around the bytes of a stream")
def test_a_part_of_what_came_does_not_keep_the_rest_of_it() -> None:
    assert origins() == 512 * KIB


@control("padding around the bytes of a stream")
def test_without_the_copy_a_part_keeps_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_SHARE", 1 << 60)
    assert origins() == 64 * 256 * KIB


def opened(count: int) -> int:
    """Open model requests on a host's link and return how many the host knows then."""
    link = make_host(control=True, drives="a", guest_key=None)
    guest = HandMadeGuest(link, guest_key=None)
    granted = [["", CONTROL, 0, 1], ["a", DRIVER, 1, 2]]
    guest.send(hello(), {"t": "have", "link": 1, "granted": granted, "refused": [], "in": {}, "open": {}})
    with contextlib.suppress(ProtocolError):
        for number in range(count):
            answer = {"answer": f"a/a/m/{number}/r"}
            guest.send({"t": "open", "s": f"a/a/m/{number}/q", "agent": "a", "meta": answer})
    return len(link._opened)


@attack(TAKES_MEMORY, "model requests that are opened and never closed")
def test_an_agent_has_no_more_model_requests_than_a_host_can_hold() -> None:
    assert opened(2000) == host.MOST_OPENED


@control("model requests that are opened and never closed")
def test_without_the_count_every_request_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "MOST_OPENED", 1 << 60)
    assert opened(2000) == 2000


ANEW = "model requests opened anew under the name of one that is being closed"


async def kept_open(count: int) -> int:
    """Open each of so many requests twice under its name, end both; return how many wait for their end."""
    session = Session(HostileGuest(), name="hostile", guest_key=None)
    channel = AgentChannel(session, "a")
    waiting = 0
    for number in range(count):
        name = f"a/a/m/{number}/q"
        channel.opened(name, f"a/a/m/{number}/r")
        channel.shut(name)
        channel.opened(name, f"a/a/m/{number}/r")
        first, second = await channel.next_exchange(), await channel.next_exchange()
        channel.close_exchange(first)
        channel.shut(name)
        waiting += not second._gone.is_set()
    return waiting


@attack(TAKES_MEMORY, ANEW)
async def test_a_model_request_opened_anew_before_the_first_is_closed_ends_when_it_is_shut() -> None:
    assert await kept_open(100) == 0


@control(ANEW)
async def test_where_a_closed_request_takes_its_name_along_the_second_waits_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def close_exchange(self: Any, exchange: Exchange) -> None:
        if exchange.close():
            self._open.pop(exchange.sid, None)

    monkeypatch.setattr(AgentChannel, "close_exchange", close_exchange)
    assert await kept_open(100) == 100


def unasked(count: int) -> int:
    """Send bytes of streams that were not asked for, read nothing; return the host's frames that wait."""
    link = make_host(control=True, guest_key=None)
    guest = HandMadeGuest(link, guest_key=None)
    granted = [["", CONTROL, 0, 1]]
    guest.send(hello(), {"t": "have", "link": 1, "granted": granted, "refused": [], "in": {}, "open": {}})
    with contextlib.suppress(ProtocolError):
        link.receive(b"".join(data(f"x/{number}", 0, b"x") for number in range(count)), 0.0)
    return len(link._control)


@attack(TAKES_MEMORY, "streams that were not asked for, while nothing is read")
def test_words_to_stop_that_nobody_reads_are_bounded() -> None:
    assert unasked(peer.MOST_STREAMS + 2000) == peer.MOST_STREAMS


@control("streams that were not asked for, while nothing is read")
def test_without_the_bound_each_stream_has_a_word_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "MOST_STREAMS", 1 << 60)
    assert unasked(20_000) == 20_000


# ---- JSON


def frame_of_values() -> int:
    """Return the peak of a frame's line with 300,000 values."""
    link = make_host(control=True, guest_key=None)
    link.attach(binary=True, now=0.0)
    text = b'{"t":"hello","x":[' + b"{}," * 300_000 + b"0]}\n"
    with peak() as held:
        with contextlib.suppress(ProtocolError):
            link.receive(text, 0.0)
        return held()


@attack(TAKES_MEMORY, "a frame full of empty values")
def test_a_frame_of_many_values_is_refused_before_it_is_parsed() -> None:
    assert frame_of_values() < 4 * MIB


@control("a frame full of empty values")
def test_without_the_count_a_frame_of_many_values_becomes_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "check_values", lambda *_args, **_kwargs: None)
    assert frame_of_values() > 20 * MIB


async def event_of_values() -> int:
    """Return the peak of an event of the journal that holds 700,000 values."""
    source = Source()
    source.feed_bytes(b'{"seq":1,"ts":1.5,"kind":"state","x":[' + b"{}," * 700_000 + b"0]}\n")
    source.feed_bytes(b"")
    read = Journal(source, stderr=None)
    with anyio.fail_after(LIMIT), peak() as held:
        await read.run()
        assert isinstance(read.failure, AgentError)
        return held()


@attack(TAKES_MEMORY, "an event of the journal full of empty values")
async def test_an_event_of_many_values_ends_the_agent_before_it_is_parsed() -> None:
    assert await event_of_values() < 12 * MIB  # the line of 2 MiB, and copies of it


@control("an event of the journal full of empty values")
async def test_without_the_count_an_event_becomes_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_bounds, "check_values", lambda *_args, **_kwargs: None)
    assert await event_of_values() > 40 * MIB


async def answer_of_values() -> int:
    """Return the peak of an answer of the file program, a listing for instance, of 1,100,000 values."""
    async with FakeProvider() as provider:
        sandbox = await provider.create(SandboxSpec())
        with peak() as held:
            with contextlib.suppress(SandboxError):
                file_program.read_answer(sandbox, b"[" + b"{}," * 1_100_000 + b"0]")
            return held()


@attack(TAKES_MEMORY, "a listing of a directory full of empty values")
async def test_an_answer_of_many_values_is_refused_before_it_is_parsed() -> None:
    assert await answer_of_values() < 16 * MIB


@pytest.mark.full  # 100 MiB of objects
@control("a listing of a directory full of empty values")
async def test_without_the_count_an_answer_becomes_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_program, "check_values", lambda *_args, **_kwargs: None)
    assert await answer_of_values() > 60 * MIB


# ---- what waits


class Endless(Source):
    """A journal of one line that does not end."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self._left = pieces

    async def receive(self) -> bytes:
        self._left -= 1
        return bytes(4 * MIB) if self._left >= 0 else b""


async def held_of_a_line() -> int:
    read = Journal(Endless(40), stderr=None)
    with anyio.fail_after(LIMIT):
        await read.run()
    return len(read._part)


@attack(TAKES_MEMORY, "an event of the journal without an end")
async def test_a_line_without_an_end_is_held_up_to_a_bound() -> None:
    assert await held_of_a_line() <= 132 * MIB


@pytest.mark.full  # it holds 160 MiB
@control("an event of the journal without an end")
async def test_without_the_bound_a_line_is_held_as_long_as_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_LONGEST_LINE", 1 << 60)
    assert await held_of_a_line() == 160 * MIB


async def open_questions(size: int, count: int) -> int:
    """Ask questions that wait for a human; return the bytes of those that the host has taken."""

    async def wait(*_: Any) -> Any:
        await anyio.sleep_forever()

    async def codec() -> Codec:
        return Codec({})

    source = Source()
    text = "x" * size
    for number in range(count):
        question = {"kind": "request", "id": number, "what": "can_use_tool", "tool_name": "Bash"}
        source.feed_bytes(line({**question, "input": {"command": text}, "context": None}))
    source.feed_bytes(b"")

    async def send(_line: dict[str, Any]) -> None:
        pass

    answers = Answers(Callbacks(can_use_tool=wait), send=send, codec=codec, authority=ToolAuthority())
    taken = 0
    stop = answers.stop

    def count_first() -> None:
        nonlocal taken
        taken = answers.open * size
        stop()

    answers.stop = count_first  # type: ignore[method-assign]
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            answers.start(tasks)
            await Journal(source, stderr=None, answers=answers).run()
            tasks.cancel_scope.cancel()
    return taken


@attack(TAKES_MEMORY, "large questions that are left open")
async def test_open_questions_are_counted_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "_AT_ONCE_BYTES", 8 * MIB)  # of 128
    assert await open_questions(2 * MIB, 9) == 6 * MIB


@control("large questions that are left open")
async def test_without_the_count_every_question_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "_AT_ONCE_BYTES", 1 << 60)
    assert await open_questions(2 * MIB, 9) == 18 * MIB


# ---- the log


async def logged_of_questions(caplog: pytest.LogCaptureFixture) -> int:
    """Ask 200 times for what is not there, by names of 60 kB; return the bytes of log."""
    source = Source()
    for number in range(200):
        event = {"kind": "request", "id": number, "what": "mcp", "server": f"{number}" + "x" * 60_000}
        source.feed_bytes(line(event))
    source.feed_bytes(b"")

    async def nothing(*_: Any) -> Any:
        raise AssertionError("not asked")

    answers = Answers(Callbacks(), send=nothing, codec=nothing, authority=ToolAuthority())
    with anyio.fail_after(LIMIT), caplog.at_level(logging.INFO):
        async with anyio.create_task_group() as tasks:
            answers.start(tasks)
            await Journal(source, stderr=None, answers=answers).run()
            tasks.cancel_scope.cancel()
    return len(caplog.text)


@attack(FILLS_DISK, "warnings with long names in them")
async def test_a_warning_is_short_whatever_it_names(caplog: pytest.LogCaptureFixture) -> None:
    assert await logged_of_questions(caplog) < 64 * 400


@control("warnings with long names in them")
async def test_without_the_bound_names_are_logged_as_they_are(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warning(self: Any, _kind: str, message: str, *args: object) -> None:
        self._log.warning(message, *args)

    def missing(_self: Any, event: Any) -> str:
        return str(event["server"])

    monkeypatch.setattr(LogOnce, "warning", warning)
    monkeypatch.setattr(Answers, "_missing", missing)
    assert await logged_of_questions(caplog) > 200 * 60_000


async def logged_of_drops(caplog: pytest.LogCaptureFixture) -> int:
    """Tell 2,000 times that lines of stderr were dropped; return the lines of log."""
    source = Source()
    event = line({"kind": "stderr", "dropped": 5, "line": "x"})
    source.feed_bytes(event * 2000)
    source.feed_bytes(b"")
    with anyio.fail_after(LIMIT), caplog.at_level(logging.INFO):
        await Journal(source, stderr=None).run()
    return len(caplog.records)


@attack(FILLS_DISK, "the same warning again and again")
async def test_a_kind_of_warning_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    assert await logged_of_drops(caplog) < 5


@control("the same warning again and again")
async def test_without_the_memory_of_kinds_each_event_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        LogOnce, "warning", lambda self, _kind, message, *args: self._log.warning(message, *args)
    )
    assert await logged_of_drops(caplog) >= 2000


@attack(FILLS_DISK, "line feeds in a warning, which forge lines of the log")
def test_what_is_logged_stays_on_its_line(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("agenthost.test")
    LogOnce(log).warning("kind", "the agent asks for %s", "x\nERROR root:all is lost\x1b[2J")
    assert caplog.text.count("\n") == 1
    assert "\x1b" not in caplog.text


@control("line feeds in a warning, which forge lines of the log")
def test_without_the_shortening_a_text_begins_lines_of_its_own(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_once, "shortened", str)
    LogOnce(logging.getLogger("agenthost.test")).warning("kind", "the agent asks for %s", "x\nERROR forged")
    assert "\nERROR forged" in caplog.text
