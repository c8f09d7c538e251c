"""The model endpoint: agents' requests reach the host, the agents' keys never do."""

from __future__ import annotations

import hashlib
import json

import anyio
import anyio.lowlevel
import pytest
from support.inside import guest_memory
from support.model_agent import body_of, script_agent

from agenthost.guest.channel import Exchange
from agenthost.guest.client import GuestSandbox

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


async def test_without_the_right_key_it_is_401_and_the_host_never_hears(box: GuestSandbox) -> None:
    script = """
for headers in (
    {},
    {"x-api-key": "sk-ant-wrong"},
    {"x-api-key": KEY + "x"},
    {"x-api-key": KEY[:-1]},
    {"x-api-key": ""},
    {"x-api-key": "f\u00fcr"},
    {"x-api-key": "wrong", "authorization": "Bearer " + KEY},
    {"authorization": "Bearer wrong"},
    {"authorization": "Basic " + KEY},
    {"authorization": KEY},
    {"cookie": KEY},
):
    connection = connect()
    connection.request("POST", "/v1/messages?key=" + KEY, b"{}", headers)
    answer = connection.getresponse()
    tell([answer.status, json.loads(answer.read())["error"]["type"]])
tell(ask(connect(), path="/v1/proper"))
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            for _ in range(11):
                assert await agent.told() == [401, "authentication_error"]
            # Had anything come before, it would come first.
            assert (await agent.answer(b""))[0].path == "/v1/proper"
            assert (await agent.told())[0] == 200


async def test_the_right_key_opens_and_never_reaches_the_host(box: GuestSandbox) -> None:
    script = """
tell(KEY)
for name, value in (("x-api-key", KEY), ("X-API-Key", KEY), ("authorization", "Bearer " + KEY),
                    ("Authorization", "bearer " + KEY)):
    connection = connect()
    connection.request("POST", "/v1/messages", b"{}", {name: value, "proxy-authorization": "also " + KEY})
    tell(connection.getresponse().status)
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            key = await agent.told()
            assert key.startswith("sk-ant-")
            for _ in range(4):
                head, _ = await agent.answer(b"")
                assert key not in json.dumps([head.method, head.path, head.headers])
                assert {"authorization", "x-api-key", "host", "connection"}.isdisjoint(dict(head.headers))
                assert await agent.told() == 200


async def test_without_model_traffic_there_is_no_address_and_no_key(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with script_agent(box, "tell([BASE, KEY])", model=False) as agent:
            assert await agent.told() == ["", ""]


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


async def test_two_agents_get_their_own_exchanges_and_the_key_of_one_is_none_of_the_others(
    box: GuestSandbox,
) -> None:
    script = """
tell(KEY)
connection = connect()
connection.request("POST", "/v1/messages", b"{}", {"x-api-key": hear()})
tell(connection.getresponse().status)
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as one, script_agent(box, script) as two:
            keys = [await one.told(), await two.told()]
            assert keys[0] != keys[1]
            await one.say(keys[1])  # spends as the other: it is the other's exchange
            await two.answer(b"")
            assert await one.told() == 200
            await two.say(keys[1])
            await two.answer(b"")
            assert await two.told() == 200


async def test_a_key_opens_nothing_once_its_agent_is_released(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with script_agent(box, "tell([KEY, BASE])\nhear()") as agent:
            key, base = await agent.told()
        fetch = f"""
import urllib.request, urllib.error
try:
    urllib.request.urlopen(urllib.request.Request("{base}/v1/messages", b"x", {{"x-api-key": "{key}"}}))
except urllib.error.HTTPError as error:
    print(error.code)
"""
        assert (await box.exec(["python3", "-c", fetch])).stdout == b"401\n"


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


async def test_the_endpoint_listens_on_loopback_only(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with script_agent(box, "tell(BASE)\nhear()") as agent:
            base = await agent.told()
            listening = await box.exec(["cat", "/proc/net/tcp", "/proc/net/tcp6"])
    port = int(base.rpartition(":")[2])
    lines = [line.split() for line in listening.stdout.decode().splitlines()]
    states = {line[1] for line in lines if len(line) > 3 and line[3] == "0A"}
    assert states == {f"0100007F:{port:04X}"}
