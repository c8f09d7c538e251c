"""One stream: its sender keeps what was not acknowledged, its receiver takes each byte once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost.wire.frames import ProtocolError
from agenthost.wire.spool import MemorySpool
from agenthost.wire.streams import LineInput, RecvStream, SendStream


class FullSpool(MemorySpool):
    """A spool whose disk is full."""

    def append(self, data: bytes) -> None:  # noqa: ARG002 - a spool's signature
        raise OSError(28, "No space left on device")


class SmallSpool(MemorySpool):
    """A spool whose disk has little room."""

    def append(self, data: bytes) -> None:
        if self.end - self.base + len(data) > 100:
            raise OSError(28, "No space left on device")
        super().append(data)


# ---- sending


def test_unacknowledged_bytes_are_never_removed_even_beyond_the_bound() -> None:
    stream = SendStream("s", bound=10)
    stream.write(b"x" * 100)
    assert stream.spool.base == 0
    assert stream.room == -90


def test_acknowledged_bytes_stay_while_they_fit_the_bound_and_the_oldest_go_first() -> None:
    stream = SendStream("s", bound=10_000)
    for _ in range(10):
        stream.write(b"x" * 5000)
        stream.acknowledge(stream.end_offset)
    assert stream.spool.end - 10_000 - 4096 <= stream.spool.base <= stream.spool.end - 10_000


def test_a_stream_may_keep_nothing_that_was_acknowledged() -> None:
    stream = SendStream("s", bound=10_000, keep=0)
    stream.write(b"x" * 5000)
    stream.acknowledge(5000)
    assert stream.spool.base == 5000


def test_room_is_what_may_be_written_before_something_is_acknowledged() -> None:
    stream = SendStream("s", bound=10)
    told: list[int] = []
    stream.on_room = lambda: told.append(stream.room)
    stream.write(b"x" * 10)
    assert stream.room == 0
    stream.acknowledge(4)
    stream.acknowledge(4)
    stream.acknowledge(2)
    assert told == [4]


def test_more_acknowledged_than_was_sent_is_a_protocol_error() -> None:
    stream = SendStream("s", bound=10)
    stream.write(b"abc")
    with pytest.raises(ProtocolError):
        stream.acknowledge(4)


def test_nothing_can_be_written_behind_the_end() -> None:
    stream = SendStream("s", bound=10)
    stream.end()
    stream.end()
    with pytest.raises(ValueError, match="ended"):
        stream.write(b"x")


def test_a_stopped_stream_forgets_its_bytes_and_takes_no_more() -> None:
    stream = SendStream("s", bound=10)
    told: list[bool] = []
    stream.on_room = lambda: told.append(stream.stopped)
    stream.write(b"x" * 10)
    stream.stop()
    stream.stop()
    stream.write(b"more")
    assert told == [True]
    assert (stream.spool.base, stream.end_offset, stream.room) == (10, 10, 10)


def test_a_full_disk_is_told_and_nothing_was_written() -> None:
    stream = SendStream("s", bound=10, spool=FullSpool())
    with pytest.raises(OSError, match="No space"):
        stream.write(b"x")
    assert stream.end_offset == 0


def test_on_a_full_disk_what_was_acknowledged_goes_and_what_was_not_stays() -> None:
    stream = SendStream("s", bound=10_000, spool=SmallSpool())
    stream.write(b"a" * 60)
    with pytest.raises(OSError, match="No space"):
        stream.write(b"b" * 60)
    stream.acknowledge(30)
    assert stream.spool.base == 0  # kept for replays, as long as nobody needs the room
    stream.write(b"b" * 60)
    assert (stream.spool.base, stream.spool.end) == (30, 120)
    with pytest.raises(OSError, match="No space"):
        stream.write(b"c" * 60)
    assert stream.spool.read(30, 90) == b"a" * 30 + b"b" * 60


def test_readers_are_told_of_news_and_of_the_end() -> None:
    stream = SendStream("s", bound=10)
    told: list[str] = []
    stream.readers.add(told.append)
    stream.write(b"")
    assert told == []
    stream.write(b"x")
    stream.end()
    assert told == ["s", "s"]


# ---- receiving


def test_bytes_that_came_before_are_dropped() -> None:
    stream = RecvStream("s", offset=10, window=100)
    assert stream.receive(10, b"abc") == b"abc"
    assert stream.receive(10, b"abc") == b""
    assert stream.receive(11, b"bcde") == b"de"
    assert stream.offset == 15


def test_bytes_above_the_offset_are_a_protocol_error() -> None:
    stream = RecvStream("s", offset=0, window=100)
    with pytest.raises(ProtocolError):
        stream.receive(1, b"x")


def test_bytes_beyond_the_credit_are_a_protocol_error() -> None:
    stream = RecvStream("s", offset=0, window=4)
    stream.receive(0, b"abcd")
    with pytest.raises(ProtocolError):
        stream.receive(4, b"e")
    stream.consume(1)
    assert stream.receive(4, b"e") == b"e"


def test_reading_from_the_oldest_byte_begins_wherever_the_first_bytes_are() -> None:
    stream = RecvStream("s", offset=None, window=4)
    assert stream.receive(1000, b"abcd") == b"abcd"
    with pytest.raises(ProtocolError):
        stream.receive(1004, b"e")


def test_the_end_is_told_once_and_must_be_where_the_bytes_stopped() -> None:
    stream = RecvStream("s", offset=0, window=10)
    stream.receive(0, b"abc")
    for wrong in (2, 4):
        with pytest.raises(ProtocolError):
            stream.finish(wrong)
    assert stream.finish(3)
    assert not stream.finish(3)
    assert stream.receive(1, b"bc") == b""
    with pytest.raises(ProtocolError):
        stream.receive(3, b"d")


def test_an_empty_stream_that_is_read_from_its_oldest_byte_ends() -> None:
    stream = RecvStream("s", offset=None, window=10)
    assert stream.finish(70)
    assert stream.offset == 70


def test_credit_is_told_by_half_windows() -> None:
    stream = RecvStream("s", offset=0, window=10)
    stream.receive(0, b"x" * 10)
    stream.consume(4)
    assert not stream.credit_is_due()
    stream.consume(1)
    assert stream.credit_is_due()
    assert not stream.credit_is_due()


# ---- an agent's input


def test_an_agent_gets_whole_lines_only() -> None:
    lines = LineInput("s", window=100, max_line=100)
    assert lines.receive(0, b"one\ntw") == b"one\n"
    assert lines.receive(6, b"o") == b""
    assert lines.receive(7, b"\nthree\nf") == b"two\nthree\n"


def test_another_driver_goes_on_behind_the_last_whole_line() -> None:
    lines = LineInput("s", window=100, max_line=100)
    lines.receive(0, b"one\ntwo\nthr")
    lines.rewind()
    assert lines.offset == 8
    assert lines.acked == 8
    assert lines.receive(8, b"four\n") == b"four\n"


def test_a_line_longer_than_the_bound_is_a_protocol_error() -> None:
    lines = LineInput("s", window=100, max_line=10)
    assert lines.receive(0, b"x" * 10) == b""
    with pytest.raises(ProtocolError):
        lines.receive(10, b"x")


def test_a_repeated_part_of_a_line_costs_nothing() -> None:
    lines = LineInput("s", window=100, max_line=100)
    lines.receive(0, b"par")
    for _ in range(1000):
        assert lines.receive(0, b"par") == b""
    assert len(vars(lines)["_part"]) == 1
    assert lines.receive(3, b"t\n") == b"part\n"


def test_rewinding_takes_back_the_credit_for_the_part() -> None:
    lines = LineInput("s", window=10, max_line=1000)
    for start in range(0, 100, 10):
        lines.receive(start, b"x" * 10)
    assert lines.limit == 110
    lines.rewind()
    assert (lines.offset, lines.limit) == (0, 10)


@given(
    window=st.integers(1, 50),
    sizes=st.lists(st.integers(0, 120), min_size=1, max_size=20),
    frame=st.integers(1, 40),
    greedy=st.booleans(),
)
def test_any_line_gets_through_any_window_and_what_waits_is_bounded(
    window: int, sizes: list[int], frame: int, *, greedy: bool
) -> None:
    """The sender uses all credit that it was told; a lazy agent reads only when nothing else moves."""
    sent = b"".join(b"x" * size + b"\n" for size in sizes)
    lines = LineInput("s", window=window, max_line=1000)
    got, waiting, told = b"", 0, window
    while len(got) < len(sent) or waiting:
        assert lines.offset is not None
        piece = sent[lines.offset : min(lines.offset + frame, told)]
        if piece:
            new = lines.receive(lines.offset, piece)
            got += new
            waiting += len(new)
            assert waiting <= window + max(sizes) + 1
            told = lines.limit  # each arrival is answered with the credit of now
        if waiting and (greedy or not piece):
            lines.consume(waiting)
            waiting = 0
            if lines.credit_is_due():
                told = lines.limit
        elif not piece:
            raise AssertionError("the line is stuck")
    assert got == sent
