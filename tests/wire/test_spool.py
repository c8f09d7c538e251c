"""A spool in memory keeps what was not acknowledged, and not much more."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost.wire.spool import MemorySpool

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from([0, 1, 5, 3000, 5000, 300_000])),
        st.tuples(st.just("trim"), st.floats(0, 1)),
        st.tuples(st.just("read"), st.floats(0, 1)),
    ),
    max_size=30,
)


@given(base=st.integers(0, 10), steps=_STEPS)
def test_it_reads_back_what_was_written_at_any_offset_it_still_has(
    base: int, steps: list[tuple[str, float]]
) -> None:
    spool = MemorySpool(base)
    written = bytearray(b"?" * base)
    least = base
    for action, value in steps:
        if action == "append":
            data = (str(len(written)).encode() * (int(value) + 1))[: int(value)]
            written += data
            spool.append(data)
        elif action == "trim":
            offset = int(least + value * (len(written) - least))
            spool.trim(offset)
            assert spool.base <= max(offset, least)
            least = spool.base
        elif len(written) > least:
            offset = min(int(least + value * (len(written) - least)), len(written) - 1)
            data = spool.read(offset, 70_000)
            assert data
            assert data == written[offset : offset + len(data)]
            assert len(data) == min(70_000, len(written) - offset)
        assert (spool.base, spool.end) == (least, len(written))


def test_trimming_everything_leaves_nothing() -> None:
    spool = MemorySpool()
    spool.append(b"abc")
    spool.trim(99)
    assert (spool.base, spool.end) == (3, 3)


def test_at_most_as_much_as_is_needed_is_kept_beyond_it() -> None:
    spool = MemorySpool()
    for _ in range(1000):
        spool.append(bytes(700))
        spool.trim(spool.end - 500)
        assert spool.end - spool.base <= 2 * 4096


def test_many_tiny_writes_take_no_more_memory_than_their_bytes() -> None:
    spool = MemorySpool()
    for _ in range(100_000):
        spool.append(b"x")
    pieces = list(vars(spool)["_pieces"])
    assert sum(sys.getsizeof(piece) for piece in pieces) < 110_000


@pytest.mark.parametrize("offset", [-1, 3, 4])
def test_reading_what_it_does_not_have_is_an_error_of_the_caller(offset: int) -> None:
    spool = MemorySpool()
    spool.append(b"abc")
    with pytest.raises(ValueError, match="outside"):
        spool.read(offset, 1)


def test_readers_at_different_places_each_read_on() -> None:
    spool = MemorySpool()
    for number in range(9):
        spool.append(bytes([number]) * 5000)
    places = [0, 44_000, 7, 20_000, 5000]
    for _ in range(3):
        for index, place in enumerate(places):
            data = spool.read(place, 300)
            assert data == b"".join(bytes([number]) * 5000 for number in range(9))[place : place + 300]
            places[index] += len(data)


def test_closed_it_holds_nothing() -> None:
    spool = MemorySpool()
    spool.append(b"abc")
    spool.close()
    assert (spool.base, spool.end) == (3, 3)
    with pytest.raises(ValueError, match="outside"):
        spool.read(0, 1)
