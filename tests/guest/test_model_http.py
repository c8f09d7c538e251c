"""The model endpoint as an HTTP server: every framing, and what is no request."""

from __future__ import annotations

import hashlib
import json

import anyio
import pytest
from guest.model_agent import body_of, script_agent

from agenthost.link.channel import Exchange
from agenthost.link.client import GuestSandbox

SECONDS = 60.0  # until a test is taken to hang


async def test_bodies_arrive_whole_however_they_are_framed(box: GuestSandbox) -> None:
    script = """
body = bytes(range(256)) * 80_000
tell(ask(connect(), body=body))                                                    # content-length
tell(ask(connect(), body=(body[i:i + 100_001] for i in range(0, len(body), 100_001))))   # chunked
tell(ask(connect(), body=b""))
chunked = head("POST", "connection: close", "transfer-encoding: Chunked")
tell(raw(chunked + b"3;ext=1\\r\\nabc\\r\\n0A\\r\\n0123456789\\r\\n0\\r\\ntrailer: x\\r\\n\\r\\n"))
tell(raw(head("GET", "connection: close")))
"""
    whole = hashlib.sha256(bytes(range(256)) * 80_000).digest()
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            for _ in range(2):
                _, body = await agent.answer(b"got it")
                assert hashlib.sha256(body).digest() == whole
                assert await agent.told() == [200, "got it"]
            assert (await agent.answer(b""))[1] == b""
            assert await agent.told() == [200, ""]
            assert (await agent.answer(b"x"))[1] == b"abc0123456789"
            assert (await agent.told()).endswith("1\r\nx\r\n0\r\n\r\n")
            head, body = await agent.answer(b"")
            assert (head.method, body) == ("GET", b"")


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_body_over_the_bound_is_413_even_when_the_host_reads_along(
    box: GuestSandbox, framing: str
) -> None:
    script = """
piece = bytes(1024 * 1024)
body = piece * 65 if hear() == "length" else (piece for _ in range(65))
tell(ask(connect(), body=body))
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent, anyio.create_task_group() as tasks:

            async def read_along() -> None:
                exchange = await agent.next_exchange()
                await exchange.head()
                with pytest.raises(ConnectionResetError):
                    await body_of(exchange)
                await exchange.wait_gone()

            if framing == "chunks":  # of a body that tells its length too large the host never hears
                tasks.start_soon(read_along)
            await agent.say(framing)
            status, body = await agent.told()
            assert (status, json.loads(body)["error"]["type"]) == (413, "invalid_request_error")


async def test_head_has_no_body(box: GuestSandbox) -> None:
    script = """
connection = connect()
tell(ask(connection, "HEAD", "/", None))
tell(ask(connection, body=b"next"))
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            head, _ = await agent.answer(b"not to be sent")
            assert (head.method, head.path) == ("HEAD", "/")
            assert await agent.told() == [200, ""]
            assert (await agent.answer(b"second"))[1] == b"next"
            assert await agent.told() == [200, "second"]


async def test_a_connection_serves_one_request_after_the_other(box: GuestSandbox) -> None:
    script = """
connection = connect()
for number in range(20):
    tell(ask(connection, body=b"%d" % number))
sock = connection.sock
tell(sock is not None)
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            for number in range(20):
                assert (await agent.answer(b"answer %d" % number))[1] == b"%d" % number
                assert await agent.told() == [200, f"answer {number}"]
            assert await agent.told() is True


MALFORMED = [
    ("nonsense\r\n\r\n", 400),
    ("GET\r\n\r\n", 400),
    ("GET http://elsewhere/ HTTP/1.1\r\nK\r\n\r\n", 400),
    ("GET / HTTP/1.1 more\r\nK\r\n\r\n", 400),
    ("GET / HTTP/1.0\r\nK\r\n\r\n", 505),
    ("GET / HTTP/2\r\nK\r\n\r\n", 505),
    ("GET /\x01 HTTP/1.1\r\nK\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nK\r\nno colon\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nK\r\n folded: x\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nK\r\nname : x\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nK\r\na: b\nc: d\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nK\r\na: b\rc\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nK\r\ncontent-length: x\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nK\r\ncontent-length: -1\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nK\r\ncontent-length: 1_0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nK\r\ncontent-length: 99999999999999999999\r\n\r\n", 413),
    ("POST / HTTP/1.1\r\nK\r\ntransfer-encoding: gzip\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
    ("POST / HTTP/1.1\r\nK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcde\r\n", 400),
    ("POST / HTTP/1.1\r\nK\r\ntransfer-encoding: chunked\r\n\r\n" + "1" * 70_000, 400),
    ("POST / HTTP/1.1\r\nlong: " + "x" * 70_000 + "\r\nK\r\n\r\n", 431),
    ("GET / HTTP/1.1\r\nno-key: x\r\n\r\n", 401),
]


async def test_what_is_no_request_is_refused_and_the_next_is_served(box: GuestSandbox) -> None:
    script = """
while True:
    data = hear().replace("\\r\\nK\\r\\n", f"\\r\\nx-api-key: {KEY}\\r\\n")
    tell(raw(data.encode("latin-1")))
    tell(ask(connect(), path="/v1/proper"))
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            for request, status in MALFORMED:
                await agent.say(request)
                answer: str = await agent.told()
                assert answer.startswith(f"HTTP/1.1 {status} "), request
                assert json.loads(answer.partition("\r\n\r\n")[2])["type"] == "error"
                # Some are refused in the middle of their body: of those the host has heard, and of their end.
                exchange = await agent.next_exchange()
                while not await is_proper(exchange):
                    await exchange.wait_gone()
                    exchange = await agent.next_exchange()
                await exchange.send_head(200, [])
                exchange.end()
                assert (await agent.told())[0] == 200


async def is_proper(exchange: Exchange) -> bool:
    """Tell the request that is meant to be served from one that was broken off."""
    try:
        return (await exchange.head()).path == "/v1/proper"
    except ConnectionResetError:
        return False


async def test_a_header_that_comes_twice_is_one_with_both_values(box: GuestSandbox) -> None:
    script = """
tell(raw(head("GET", "connection: close", "anthropic-beta: a", "Anthropic-Beta: b")))
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            head, _ = await agent.answer(b"")
            assert dict(head.headers)["anthropic-beta"] == "a, b"
            await agent.told()


async def test_a_client_may_ask_before_it_sends_its_body(box: GuestSandbox) -> None:
    script = """
sock = socket.create_connection(("127.0.0.1", PORT))
sock.sendall(head("POST", "expect: 100-continue", "content-length: 4", "connection: close"))
tell(sock.recv(100).decode())
sock.sendall(b"body")
tell(sock.recv(100).decode())
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            assert await agent.told() == "HTTP/1.1 100 Continue\r\n\r\n"
            head, body = await agent.answer(b"")
            assert "expect" not in dict(head.headers)
            assert body == b"body"
            assert (await agent.told()).startswith("HTTP/1.1 200 ")
