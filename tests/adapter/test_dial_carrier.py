"""A carrier over a ``dial`` program gives way to another in time, and knows a guest that is not there.

A program that is followed to its end is closed, and its failure holds what it printed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from agenthost.adapter.dial_carrier import DialCarrier, follow
from agenthost.errors import ProviderError

LIMIT = 30  # seconds for what has to happen; nothing waits that long
NO_GUEST = b"dial: the guest does not answer\n"


class Program:
    """A program that prints these pieces and then ends, or prints nothing more.

    Attributes:
        asked: How often its output was asked for.
    """

    binary = True

    def __init__(self, *pieces: bytes, stderr: bytes = b"", ends: bool = True, code: int | None = 1) -> None:
        self.stderr = b""
        self.asked = 0
        self.sent: list[bytes] = []
        self.is_closed = False
        self._pieces = list(pieces)
        self._last_words = stderr
        self._ends = ends
        self._code = code

    async def send(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self.sent.append(data)

    async def receive(self) -> bytes:
        self.asked += 1
        await anyio.lowlevel.checkpoint()
        if not self._pieces and not self._ends:
            await anyio.sleep_forever()
        return self._pieces.pop(0) if self._pieces else b""

    async def wait(self) -> int:
        await anyio.lowlevel.checkpoint()
        self.stderr = self._last_words  # complete when ``wait`` returned, and not earlier
        if self._code is None:
            raise ProviderError("the vendor does not know")
        return self._code

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.is_closed = True


async def test_bytes_pass_both_ways_and_closing_ends_the_program() -> None:
    program = Program(b"one", b"two")
    carrier = DialCarrier(program)
    await carrier.send(b"to it")
    assert [await carrier.receive() for _ in range(3)] == [b"one", b"two", b""]
    await carrier.aclose()
    assert (carrier.binary, program.sent, program.is_closed) == (True, [b"to it"], True)


async def test_after_so_many_bytes_the_carrier_ends_and_reads_no_more() -> None:
    program = Program(b"1234", b"5678", b"9")
    carrier = DialCarrier(program, renew_bytes=8)
    assert [await carrier.receive() for _ in range(4)] == [b"1234", b"5678", b"", b""]
    assert program.asked == 2
    assert not carrier.refused


async def test_after_so_much_time_the_carrier_ends_though_nothing_comes() -> None:
    carrier = DialCarrier(Program(b"x", ends=False), renew_seconds=0.05)
    with anyio.fail_after(LIMIT):
        assert await carrier.receive() == b"x"
        assert await carrier.receive() == b""
    assert not carrier.refused


@pytest.mark.parametrize(
    ("start", "is_refused"),
    [
        (partial(Program, stderr=NO_GUEST), True),
        (partial(Program, stderr=b"killed\n"), False),
        (partial(Program, stderr=NO_GUEST, code=None), False),  # neither code nor reason is known
        (partial(Program, b"x", stderr=NO_GUEST), False),
    ],
    ids=["no guest", "another reason", "unknown reason", "after output"],
)
async def test_a_program_that_ends_at_once_for_want_of_a_guest_is_a_refusal(
    start: Callable[[], Program], is_refused: bool
) -> None:
    carrier = DialCarrier(start())
    while await carrier.receive():
        pass
    assert carrier.refused is is_refused


async def test_a_program_that_is_followed_reports_its_lines_and_is_closed_at_its_end() -> None:
    program, lines = Program(b"on", b"e\ntwo\nrest", code=0), list[str]()
    await follow(program, "writing files", lines.append)
    assert (lines, program.is_closed) == (["one", "two"], True)


async def test_a_followed_program_that_fails_is_closed_and_the_error_ends_with_what_it_printed() -> None:
    program = Program(b"x" * 5000, b"\nno space\n", stderr=b"left on device\n", code=28)
    with pytest.raises(
        ProviderError, match=r"^writing files: exit code 28:\n(?s:.*)no space\nleft on device$"
    ):
        await follow(program, "writing files")
    assert program.is_closed
