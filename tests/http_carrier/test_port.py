"""The guest's port by itself: what strangers learn, what a recording is worth, how much of all there is."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio
import pytest
from anyio.abc import SocketStream

from agenthost.guest.http.carrier import ABSENT, HOLD, RENEW
from agenthost.guest.http.connection import IDLE, REFUSAL, SENDING
from agenthost.guest.http.port import CONNECTIONS, STRANGERS, Port
from agenthost.guest.http.request import BODY_LIMIT, HEAD_LIMIT
from agenthost.wire.admission import HEADER, carrier_key, port_key, sign
from agenthost.wire.guest import GuestHub
from agenthost.wire.settings import WireSettings

SECONDS = 30.0  # until a test is taken to hang
KEY = port_key(b"k" * 32)
NAME = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on asyncio, as guests do."""
    return "asyncio"


class Served:
    """A port that listens, and requests to it."""

    def __init__(self, number: int, port: Port) -> None:
        self.number = number
        self.port = port

    async def connect(self) -> SocketStream:
        """Return a connection."""
        return await anyio.connect_tcp("127.0.0.1", self.number)

    async def ask(self, data: bytes) -> bytes:
        """Send on a connection of its own; return all that comes until the port closes it."""
        async with await self.connect() as stream:
            await stream.send(data)
            return await rest(stream)

    async def admit(self, name: str = NAME) -> tuple[SocketStream, bytes]:
        """Dial; return the connection with the answer, and the key of the carrier."""
        stream = await self.connect()
        await stream.send(down(KEY, name))
        got = b""
        while got.count(b"\n") < 8 or not got.endswith(b"\r\n"):
            got += await stream.receive()
        nonce = got.partition(b"\r\n\r\n")[2].split(b"\r\n")[1][:32]
        return stream, carrier_key(KEY, name, nonce.decode())

    async def know(self) -> None:
        """Return when the port has read what was sent before."""
        assert await self.ask(b"GET / HTTP/1.1\r\n\r\n") == REFUSAL

    def pass_time(self, seconds: float) -> None:
        """Have the port believe that so much time has passed."""
        self.port.tick(time.monotonic() + seconds)


def down(key: bytes, name: str = NAME, *, number: int = 0, have: int = 0, mode: str = "") -> bytes:
    """Return a request for bytes."""
    target = f"/v1/down?carrier={name}&request={number}&have={have}" + (f"&mode={mode}" if mode else "")
    return (
        f"GET {target} HTTP/1.1\r\n{HEADER}: {sign(key, 'down', name, number, have, mode)}\r\n\r\n".encode()
    )


def up(key: bytes, batch: int, body: bytes, *, name: str = NAME, length: int | None = None) -> bytes:
    """Return a batch."""
    head = (
        f"POST /v1/up?carrier={name}&batch={batch} HTTP/1.1\r\n{HEADER}: {sign(key, 'up', name, batch)}\r\n"
    )
    size = len(body) if length is None else length
    return f"{head}content-length: {size}\r\n\r\n".encode() + body


async def rest(stream: SocketStream) -> bytes:
    """Return what comes until the other end closes."""
    got = b""
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            got += await stream.receive()
    return got


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """Give a port whose carriers need no handshake to stay."""
    hub = GuestHub("b" * 32, "c" * 64, WireSettings(auth_within=1e9), guest_key=b"k" * 32)
    port = Port(hub)
    listener = socket.create_server(("127.0.0.1", 0))
    number = listener.getsockname()[1]
    await port.serve(listener)
    try:
        with anyio.fail_after(SECONDS):
            yield Served(number, port)
    finally:
        port.close()


STRANGE = {
    "the root": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "a health check": b"GET /healthz HTTP/1.1\r\n\r\n",
    "a path of the port without a token": b"GET /v1/down?carrier=%b&request=0&have=0 HTTP/1.1\r\n\r\n"
    % NAME.encode(),
    "a wrong token": down(b"another key"),
    "a token of the wrong method": down(KEY).replace(b"GET", b"HEAD"),
    "a token for another request": down(KEY).replace(b"have=0", b"have=1"),
    "a name that is not a carrier's": down(KEY, "short"),
    "a batch of no carrier": up(KEY, 0, b"body"),
    "HEAD": b"HEAD / HTTP/1.1\r\n\r\n",
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    "an endless head": b"GET / HTTP/1.1\r\na: " + b"b" * HEAD_LIMIT,
    "two lengths": down(KEY).replace(b"\r\n\r\n", b"\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n"),
    "a length and chunks": down(KEY).replace(
        b"\r\n\r\n", b"\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n"
    ),
    "a number that is too long": down(KEY).replace(b"request=0", b"request=" + b"1" * 5000),
    "an unfinished body": b"POST / HTTP/1.1\r\ncontent-length: 100000\r\n\r\nabc",
}


@pytest.mark.parametrize("request_", STRANGE.values(), ids=STRANGE)
async def test_a_stranger_gets_one_and_the_same_answer_to(served: Served, request_: bytes) -> None:
    assert await served.ask(request_) == REFUSAL


async def test_a_request_with_a_wrong_byte_is_refused_or_means_the_same(served: Served) -> None:
    """A letter of a header's name may have the other case; nothing else of a request may differ."""
    chance = random.Random(8)
    for number in range(200):
        good = down(KEY, f"{number:032x}")
        place = chance.randrange(len(good) - 4)
        wrong = good[:place] + bytes([chance.randrange(256)]) + good[place + 1 :]
        async with await served.connect() as stream:
            await stream.send(wrong + b"\r\n\r\n")  # which ends it, whatever has become of it
            got = await stream.receive()
        assert got == REFUSAL or (got.startswith(b"HTTP/1.1 200 ") and wrong.lower() == good.lower())


async def test_a_recorded_request_is_refused(served: Served) -> None:
    stream, key = await served.admit()
    assert await served.ask(down(KEY)) == REFUSAL  # while the carrier lives
    async with await served.connect() as second:
        await second.send(down(key, number=7, have=10_000))  # too many bytes: the carrier ends
        assert (await second.receive()).startswith(b"HTTP/1.1 409 ")
    await stream.aclose()
    served.pass_time(0)
    assert await served.ask(down(KEY)) == REFUSAL  # and when it has ended
    assert await served.ask(down(key, number=8)) == REFUSAL
    assert await served.ask(up(key, 0, b"")) == REFUSAL


async def test_a_batch_is_taken_once_and_a_gap_ends_the_carrier(served: Served) -> None:
    stream, key = await served.admit()
    async with stream, await served.connect() as batches:
        for _ in range(2):  # the second time it would be half of a line, which no frame begins with
            await batches.send(up(key, 0, b"{"))
            assert (await batches.receive()).startswith(b"HTTP/1.1 204 ")
        await batches.send(up(key, 2, b"}"))
        assert (await batches.receive()).startswith(b"HTTP/1.1 409 ")
        assert await served.ask(up(key, 1, b"}")) == REFUSAL


async def test_a_body_in_chunks_is_a_batch(served: Served) -> None:
    stream, key = await served.admit()
    head = up(key, 0, b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
    async with stream, await served.connect() as batches:
        for piece in (head, b"1", b"\r\n", b"{\r", b"\n3;x=y\r\n", b'"a"', b"\r\n0\r\n", b"\r\n"):
            await batches.send(piece)
        assert (await batches.receive()).startswith(b"HTTP/1.1 204 ")
        await batches.send(up(key, 1, b"}\n"))  # the line is complete, and is not a good first frame
        assert (await batches.receive()).startswith(b"HTTP/1.1 204 ")
        assert await rest(stream) == b""


async def test_an_answer_in_chunks_ends_before_an_edge_would_cut_it(served: Served) -> None:
    stream, key = await served.admit()
    async with stream:
        served.pass_time(RENEW + 1)
        assert await stream.receive() == b"0\r\n\r\n"
        await stream.send(down(key, number=1, have=10_000))  # the same connection takes the next request
        assert (await stream.receive()).startswith(b"HTTP/1.1 409 ")


async def test_a_poll_is_answered_with_the_first_bytes_or_with_none_after_a_while(served: Served) -> None:
    async with await served.connect() as stream:
        await stream.send(down(KEY, mode="poll"))
        head, _, body = (await stream.receive()).partition(b"\r\n\r\n")
        assert b"content-length: %d" % len(body) in head
        key = carrier_key(KEY, NAME, body[:32].decode())
        again = down(key, number=1, have=10, mode="poll")
        await stream.send(again)
        assert (await stream.receive()).partition(b"\r\n\r\n")[2] == body[10:]  # the rest was cut off
        assert await served.ask(again) == REFUSAL
        await stream.send(down(key, number=2, have=len(body), mode="poll"))
        await served.know()
        served.pass_time(HOLD + 1)
        assert b"content-length: 0\r\n" in await stream.receive()


async def test_a_carrier_whose_host_asks_for_no_more_bytes_ends(served: Served) -> None:
    stream, key = await served.admit()
    await stream.aclose()
    await served.know()
    served.pass_time(ABSENT + 1)
    assert await served.ask(up(key, 0, b"")) == REFUSAL


@pytest.mark.parametrize("begun", [b"GET / HTTP/1.1\r\n", b"G"])
async def test_a_head_that_does_not_come_in_time_is_refused(served: Served, begun: bytes) -> None:
    async with await served.connect() as stream:
        await stream.send(begun)
        await served.know()
        served.pass_time(SENDING + 1)
        assert await rest(stream) == REFUSAL


async def test_a_body_that_does_not_come_in_time_has_no_effect(served: Served) -> None:
    stream, key = await served.admit()
    async with stream, await served.connect() as slow:
        await slow.send(up(key, 0, b"}\n", length=100))
        await served.know()
        served.pass_time(SENDING + 1)
        assert await rest(slow) == b""
        async with await served.connect() as batches:
            await batches.send(up(key, 0, b"{"))
            assert (await batches.receive()).startswith(b"HTTP/1.1 204 ")
            await batches.send(up(key, 1, b"{"))  # the carrier lives: nothing malformed was taken
            assert (await batches.receive()).startswith(b"HTTP/1.1 204 ")


async def test_a_body_above_the_limit_is_refused_before_it_is_read(served: Served) -> None:
    stream, key = await served.admit()
    async with stream:
        assert await served.ask(up(key, 0, b"", length=BODY_LIMIT + 1)) == REFUSAL
        chunked = up(key, 0, b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
        assert await served.ask(chunked + b"%x\r\n" % (BODY_LIMIT + 1)) == REFUSAL


async def test_silent_connections_make_room_and_carriers_stay(served: Served) -> None:
    stream, key = await served.admit()
    silent = [await served.connect() for _ in range(CONNECTIONS)]
    await served.know()  # one more is served
    assert await rest(silent[0]) == b""
    async with stream, await served.connect() as batches:
        await batches.send(up(key, 0, b"{"))
        assert (await batches.receive()).startswith(b"HTTP/1.1 204 ")
    for connection in silent:
        await connection.aclose()


async def test_carriers_without_a_handshake_make_room_for_new_ones(served: Served) -> None:
    streams = [(await served.admit(f"{number:032x}"))[0] for number in range(STRANGERS + 1)]
    assert await rest(streams[0]) == b""
    for stream in streams:
        await stream.aclose()


async def test_an_idle_connection_is_closed(served: Served) -> None:
    stream, _ = await served.admit()
    served.pass_time(RENEW + 1)
    assert await stream.receive() == b"0\r\n\r\n"
    served.pass_time(IDLE + 1)
    assert await rest(stream) == b""
    await stream.aclose()
