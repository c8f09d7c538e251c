"""The model endpoint: agents' requests reach the host, answers come back as they come, and ends are told."""

from __future__ import annotations

import hashlib

import anyio
import anyio.lowlevel
import pytest
from guest.model_agent import body_of, script_agent
from support.inside import guest_memory

from agenthost.link.channel import Exchange
from agenthost.link.client import GuestSandbox

SECONDS = 60.0  # until a test is taken to hang
MIB = 1024 * 1024


async def test_a_request_reaches_the_host_and_its_answer_the_agent(box: GuestSandbox) -> None:
    script = """
connection = connect()
path = "/v1/messages?beta=true"
tell(ask(connection, path=path, body=b'{"a":1}', anthropic_version="2023-06-01", X_Two="b"))
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            head, body = await agent.answer(b"hello", status=201)
            assert (head.method, head.path, body) == ("POST", "/v1/messages?beta=true", b'{"a":1}')
            assert dict(head.headers)["anthropic-version"] == "2023-06-01"
            assert dict(head.headers)["x-two"] == "b"
            assert await agent.told() == [201, "hello"]
            assert await agent.channel.wait() == 0


HANG_UP = """
sock = socket.create_connection(("127.0.0.1", PORT))
sock.sendall(head("POST", f"content-length: {hear()}") + b"12345")
hear()
sock.close()
tell("closed")
hear()
"""


@pytest.mark.parametrize("answered", [False, True])
async def test_an_agent_that_hangs_up_is_told_to_the_host(box: GuestSandbox, answered: bool) -> None:
    with anyio.fail_after(SECONDS):
        async with script_agent(box, HANG_UP) as agent:
            await agent.say(5)
            exchange = await agent.next_exchange()
            assert await body_of_with_head(exchange) == b"12345"
            if answered:
                await exchange.send_head(200, [])
                await exchange.send(b"begun")
            await agent.say("hang up")
            await exchange.wait_gone()
            with pytest.raises(ConnectionError):
                while True:
                    await exchange.send(b"more")
                    await anyio.lowlevel.checkpoint()


async def test_an_agent_that_hangs_up_in_the_middle_of_its_request_is_told_to_the_host(
    box: GuestSandbox,
) -> None:
    with anyio.fail_after(SECONDS):
        async with script_agent(box, HANG_UP) as agent:
            await agent.say(10)
            exchange = await agent.next_exchange()
            await exchange.head()
            assert await exchange.receive() == b"12345"
            await agent.say("hang up")
            with pytest.raises(ConnectionResetError):
                await exchange.receive()
            await exchange.wait_gone()


async def body_of_with_head(exchange: Exchange) -> bytes:
    """Read head and body, return the body."""
    await exchange.head()
    return await body_of(exchange)


@pytest.mark.parametrize("begun", [False, True])
async def test_an_answer_that_breaks_is_a_closed_connection_for_the_agent(
    box: GuestSandbox, begun: bool
) -> None:
    script = """
sock = socket.create_connection(("127.0.0.1", PORT))
sock.sendall(head("GET"))
data = b""
while part := sock.recv(100):
    data += part
tell(data.decode())
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            exchange = await agent.next_exchange()
            if begun:
                await exchange.send_head(200, [])
                await exchange.send(b"begun")
            await exchange.cut()
            await exchange.wait_gone()
            received = await agent.told()
    assert not received.endswith("0\r\n\r\n") if begun else received == ""


async def test_a_slow_answer_streams_as_it_comes(box: GuestSandbox) -> None:
    script = """
connection = connect()
connection.request("GET", "/", headers={"x-api-key": KEY})
answer = connection.getresponse()
tell(answer.getheader("x-mine"))
while piece := answer.read1():
    tell(piece.decode())
tell("end")
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            exchange = await agent.next_exchange()
            unwanted = [("content-length", "3"), ("transfer-encoding", "gzip"), ("connection", "close")]
            await exchange.send_head(200, [("x-mine", "first"), *unwanted, ("x-bad", "a\r\nb: c")])
            assert await agent.told() == "first"
            for number in range(5):
                await exchange.send(b"piece %d" % number)
                assert await agent.told() == f"piece {number}"
            exchange.end()
            assert await agent.told() == "end"
            await exchange.wait_gone()


async def test_an_answer_that_is_closed_at_once_arrives_whole(box: GuestSandbox) -> None:
    data = bytes(range(256)) * 20_000
    script = "import hashlib\ntell(hashlib.sha256(ask(connect())[1].encode('latin-1')).hexdigest())"
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            exchange = await agent.next_exchange()
            await exchange.send_head(200, [])
            await exchange.send(data)
            exchange.end()
            agent.channel.close_exchange(exchange)
            assert await agent.told() == hashlib.sha256(data).hexdigest()


async def test_an_agent_that_does_not_read_holds_the_host_up(box: GuestSandbox) -> None:
    script = """
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
sock.connect(("127.0.0.1", PORT))
sock.sendall(head("GET", "connection: close"))
hear()
size = 0
while part := sock.recv(1 << 20):
    size += len(part)
tell(size)
"""
    sent = 0
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            exchange = await agent.next_exchange()
            await exchange.send_head(200, [])
            with anyio.move_on_after(1.0):
                while sent < 64:
                    await exchange.send(bytes(MIB))
                    sent += 1
            assert sent < 16
            await agent.say("read")
            exchange.end()
            assert sent * MIB <= await agent.told() < (sent + 1) * MIB + 100_000


async def test_a_host_that_does_not_read_costs_no_memory_and_loses_nothing(box: GuestSandbox) -> None:
    script = """
body = bytes(range(256)) * 160_000
tell("sending")
connection = connect()
connection.request("POST", "/", body, {"x-api-key": KEY})
tell("sent")
tell(connection.getresponse().status)
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            assert await agent.told() == "sending"
            before = await guest_memory(box)
            exchange = await agent.next_exchange()
            await exchange.head()
            assert await agent.told() == "sent"
            assert await guest_memory(box) - before < 12 * MIB
            body = await body_of(exchange)
            assert hashlib.sha256(body).digest() == hashlib.sha256(bytes(range(256)) * 160_000).digest()
            await exchange.send_head(200, [])
            exchange.end()
            assert await agent.told() == 200


async def test_several_requests_of_one_agent_are_answered_in_any_order(box: GuestSandbox) -> None:
    script = """
import threading
def one(number):
    tell([number, ask(connect(), body=b"%d" % number)[1]])
threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            exchanges = [await agent.next_exchange() for _ in range(8)]
            for exchange in reversed(exchanges):
                body = await body_of_with_head(exchange)
                await exchange.send_head(200, [])
                await exchange.send(b"to " + body)
                exchange.end()
            told = [await agent.told() for _ in range(8)]
    assert sorted(told) == [[number, f"to {number}"] for number in range(8)]


async def test_releasing_an_agent_ends_what_it_asked_for(box: GuestSandbox) -> None:
    """Also for a program that is none of its own but uses its key."""
    fetch = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
connection.request("POST", "/", b"x", {"x-api-key": sys.argv[2]})
try:
    connection.getresponse()
except http.client.RemoteDisconnected:
    print("cut")
"""
    gone: list[str] = []

    async def wait_for(exchange: Exchange) -> None:
        await exchange.wait_gone()
        gone.append("gone")

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            async with script_agent(box, "tell([KEY, PORT])\nhear()") as agent:
                key, port = await agent.told()
                process = box.spawn(["python3", "-c", fetch, str(port), key])
                stranger = await process.__aenter__()
                exchange = await agent.next_exchange()
                tasks.start_soon(wait_for, exchange)
            try:
                assert await stranger.receive_stdout() == b"cut\n"
            finally:
                await process.__aexit__(None, None, None)
        assert gone == ["gone"]
