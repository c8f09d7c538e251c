"""The agent's model requests get the key on the host, and only they do."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from agenthost.agent.credentials import ModelAccess, let_provider_add
from agenthost.agent.model_guard import ModelGuard
from agenthost.agent.model_proxy import ModelProxy
from agenthost.errors import ConfigError
from agenthost.http import HttpClient, TransportError
from agenthost.testing.loopback import ClientGoneError, Exchange, HttpRequest, LoopbackServer

LIMIT = 20
KEY = "sk-ant-very-secret"
POST = "/v1/messages?beta=true"
BODY = b'{"model": "claude-opus-5-5", "max_tokens": 10}'


@dataclass
class Head:
    method: str = "POST"
    path: str = POST
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class FakeExchange:
    """The guest's end of one exchange, held by the test."""

    asked: Head
    body: list[bytes] = field(default_factory=lambda: [BODY])
    status: int | None = None
    headers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    data: bytes = b""
    ended: bool = False
    was_cut: bool = False
    gone: anyio.Event = field(default_factory=anyio.Event)
    on_data: Callable[[], None] = lambda: None

    async def head(self) -> Head:
        return self.asked

    async def receive(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        return self.body.pop(0) if self.body else b""

    async def send_head(self, status: int, headers: Any) -> None:
        self.status, self.headers = status, list(headers)

    async def send(self, data: bytes) -> None:
        if self.gone.is_set():
            raise BrokenPipeError(32, "hung up")
        self.data += data
        self.on_data()

    def end(self) -> None:
        self.ended = True
        self.gone.set()

    async def cut(self) -> None:
        self.was_cut = True
        self.gone.set()

    async def wait_gone(self) -> None:
        await self.gone.wait()

    def message(self) -> str:
        return str(json.loads(self.data)["error"]["message"])


async def serve(url: str, exchange: FakeExchange, *, request_bytes: int = 1 << 20) -> FakeExchange:
    access = ModelAccess(url, (("x-api-key", KEY), ("x-tenant", "seven")))
    with anyio.fail_after(LIMIT):
        async with HttpClient() as client:
            await ModelProxy(access, request_bytes=request_bytes).serve(client, exchange)
    return exchange


class Upstream:
    """A server that answers by a function and remembers what it was asked."""

    def __init__(self, handler: Callable[[Exchange], Any]) -> None:
        self.requests: list[HttpRequest] = []
        self._handler = handler
        self.server = LoopbackServer(self._handle)

    async def _handle(self, exchange: Exchange) -> None:
        self.requests.append(exchange.request)
        await self._handler(exchange)


async def reply_ok(exchange: Exchange) -> None:
    headers = {"content-type": "application/json", "request-id": "req_1", "set-cookie": "a=b"}
    await exchange.reply(200, b'{"ok": true}', headers)


async def test_a_request_passes_with_the_hosts_key_and_its_answer_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    upstream = Upstream(reply_ok)
    sent = (
        ("content-type", "application/json"),
        ("anthropic-beta", "one,two"),
        ("X-Api-Key", "placeholder"),
        ("authorization", "Bearer placeholder"),
        ("cookie", "c=1"),
        ("host", "127.0.0.1:1"),
        ("connection", "keep-alive"),
        ("x-tenant", "forged"),
        ("content-length", "999"),
        ("transfer-encoding", "chunked"),
        ("accept-encoding", "gzip, br"),
    )
    async with upstream.server as server:
        done = await serve(server.url, FakeExchange(Head(headers=sent), [BODY[:10], BODY[10:]]))

    (request,) = upstream.requests
    assert (request.method, request.target, request.body) == ("POST", POST, BODY)
    assert request.headers["x-api-key"] == KEY
    assert request.headers["x-tenant"] == "seven"
    assert request.headers["anthropic-beta"] == "one,two"
    assert request.headers["content-length"] == str(len(BODY))
    assert request.headers["accept-encoding"] == "identity"  # the guest looks for an answer's last event
    assert request.headers["host"] in server.url
    assert not {"authorization", "cookie", "transfer-encoding", "user-agent"} & set(request.headers)
    assert (done.status, done.data, done.ended) == (200, b'{"ok": true}', True)
    assert dict(done.headers) == {"content-type": "application/json", "request-id": "req_1"}
    assert KEY not in caplog.text


async def test_an_answer_is_passed_on_as_it_comes() -> None:
    go = anyio.Event()

    async def stream(exchange: Exchange) -> None:
        await exchange.start(200, {"content-type": "text/event-stream"})
        await exchange.write(b"first")
        await go.wait()  # set by the arrival of the first piece
        await exchange.write(b"second")
        await exchange.finish()

    exchange = FakeExchange(Head(), on_data=go.set)
    async with Upstream(stream).server as server:
        await serve(server.url, exchange)

    assert exchange.data == b"firstsecond"
    assert exchange.ended


@pytest.mark.parametrize("status", [429, 500, 529])
async def test_errors_of_the_model_pass_as_they_are(status: int) -> None:
    async def refuse(exchange: Exchange) -> None:
        headers = {"retry-after": "7", "x-should-retry": "true"}
        await exchange.reply(status, b"overloaded", headers)

    async with Upstream(refuse).server as server:
        done = await serve(server.url, FakeExchange(Head()))

    assert (done.status, done.data) == (status, b"overloaded")
    assert dict(done.headers) == {"retry-after": "7", "x-should-retry": "true"}


@pytest.mark.parametrize(
    ("status", "counted"), [(200, 1), (400, 1), (404, 1), (408, 0), (429, 0), (500, 0), (529, 0)]
)
async def test_an_error_costs_nothing_and_one_that_is_to_be_repeated_is_no_request(
    status: int, counted: int
) -> None:
    async def answer(exchange: Exchange) -> None:
        usage = {"input_tokens": 1000, "output_tokens": 1000}
        await exchange.reply(status, json.dumps({"usage": usage}).encode())

    guard = ModelGuard()
    async with Upstream(answer).server as server, HttpClient() as client:
        proxy = ModelProxy(ModelAccess(server.url, ()), guard, request_bytes=1000)
        await proxy.serve(client, FakeExchange(Head()))
    used = guard.budget.used
    assert used.requests == counted
    assert (used.tokens, round(used.usd, 6)) == ((2000, 0.024) if status == 200 else (0, 0.0))


async def test_a_compressed_body_is_judged_and_sent_as_it_is_within_the_limit() -> None:
    upstream = Upstream(reply_ok)
    head = Head(headers=(("Content-Encoding", "gzip"),))
    bomb = gzip.compress(b" " * 5000)
    async with upstream.server as server:
        await serve(server.url, FakeExchange(head, [gzip.compress(BODY)]))
        large = await serve(server.url, FakeExchange(head, [bomb]), request_bytes=4000)
        broken = await serve(server.url, FakeExchange(head, [b"x"]))

    assert [request.body for request in upstream.requests] == [BODY]
    assert "content-encoding" not in upstream.requests[0].headers
    assert (large.status, broken.status) == (413, 451)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/messages"),
        ("POST", "/v1/files"),
        ("POST", "/v1/messages/batches"),
        ("POST", "/v1/messages/../organizations"),
        ("POST", "/v1/messages%2f..%2ffiles"),
        ("POST", "//v1/messages"),
        ("POST", "/v1/messages?x=%0d%0a"),
        ("POST", "@evil.example/v1/messages"),
        ("DELETE", "/v1/messages"),
        ("GET", "/api/hello"),
    ],
)
async def test_everything_but_the_models_own_paths_is_refused_and_not_sent(method: str, path: str) -> None:
    upstream = Upstream(reply_ok)
    async with upstream.server as server:
        done = await serve(server.url, FakeExchange(Head(method, path)))

    assert done.status == 403
    assert "not open to an agent" in done.message()
    assert upstream.requests == []


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens?beta=true", "/v1/messages"])
async def test_the_models_own_paths_are_open(path: str) -> None:
    upstream = Upstream(reply_ok)
    async with upstream.server as server:
        done = await serve(server.url, FakeExchange(Head("POST", path)))
        hello = await serve(server.url, FakeExchange(Head("HEAD", "/api/hello")))

    assert (done.status, hello.status, hello.data) == (200, 200, b"")


async def test_a_request_that_is_too_large_is_refused_and_goes_nowhere() -> None:
    upstream = Upstream(reply_ok)
    async with upstream.server as server:
        done = await serve(server.url, FakeExchange(Head(), [b"x" * 600] * 2), request_bytes=1000)

    assert done.status == 413
    assert upstream.requests == []


@dataclass
class MeteredExchange(FakeExchange):
    """Tells the test how much was taken from it."""

    taken: int = 0

    async def receive(self) -> bytes:
        data = await super().receive()
        self.taken += len(data)
        return data


async def test_large_requests_wait_their_turn_and_small_ones_do_not() -> None:
    mib = 1 << 20
    large = [MeteredExchange(Head(), [*[b" " * (mib // 4)] * 15, BODY.rjust(mib // 4)]) for _ in range(12)]
    two, go_on = anyio.Event(), anyio.Event()
    arrived: list[int] = []

    async def hold(exchange: Exchange) -> None:
        arrived.append(len(exchange.request.body))
        if arrived.count(4 * mib) == 2:
            two.set()
        if exchange.request.body != BODY:
            await go_on.wait()
        await exchange.reply(200, b"ok")

    with anyio.fail_after(LIMIT):
        async with Upstream(hold).server as server, HttpClient() as client:
            access = ModelAccess(server.url, (("x-api-key", KEY),))
            proxy = ModelProxy(access, request_bytes=4 * mib, in_flight=8 * mib)
            async with anyio.create_task_group() as tasks:
                for exchange in large:
                    tasks.start_soon(proxy.serve, client, exchange)
                await two.wait()
                await anyio.wait_all_tasks_blocked()
                # Two are under way; of each of the others what a small one may hold, and a piece.
                assert sum(exchange.taken for exchange in large) <= 8 * mib + 10 * (mib + mib // 4)
                small = FakeExchange(Head())
                await proxy.serve(client, small)
                assert small.data == b"ok"
                go_on.set()

    assert [exchange.data for exchange in large] == [b"ok"] * 12
    assert sorted(arrived) == [len(BODY)] + [4 * mib] * 12


async def test_a_large_request_that_hangs_up_while_it_waits_is_not_waited_for() -> None:
    mib = 1 << 20
    first, second, third = (MeteredExchange(Head(), [b" " * mib, BODY.rjust(mib)]) for _ in range(3))
    one, go_on = anyio.Event(), anyio.Event()

    async def hold(exchange: Exchange) -> None:
        one.set()
        await go_on.wait()
        await exchange.reply(200, b"ok")

    with anyio.fail_after(LIMIT):
        async with Upstream(hold).server as server, HttpClient() as client:
            proxy = ModelProxy(ModelAccess(server.url, ()), request_bytes=2 * mib, in_flight=2 * mib)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(proxy.serve, client, first)
                await one.wait()
                tasks.start_soon(proxy.serve, client, second)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(proxy.serve, client, third)
                await anyio.wait_all_tasks_blocked()
                second.gone.set()
                go_on.set()

    assert (first.data, second.data, third.data) == (b"ok", b"", b"ok")


async def test_a_model_that_cannot_be_reached_is_a_502_that_quotes_no_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with LoopbackServer(reply_ok) as server:
        url = server.url  # nobody listens there once the block is left
    with caplog.at_level(logging.DEBUG):
        done = await serve(url, FakeExchange(Head()))

    assert done.status == 502
    assert "ConnectError at 127.0.0.1" in done.message()
    assert KEY not in caplog.text + done.message()
    assert "could not be reached" in caplog.text


async def test_an_answer_that_breaks_is_cut_so_that_the_agent_asks_again() -> None:
    async def breaks(exchange: Exchange) -> None:
        await exchange.start(200, {})
        await exchange.write(b"half")
        raise ClientGoneError("closed in the middle")

    async with Upstream(breaks).server as server:
        done = await serve(server.url, FakeExchange(Head()))

    assert (done.data, done.ended, done.was_cut) == (b"half", False, True)


async def test_an_agent_that_hangs_up_ends_the_request_to_the_model() -> None:
    closed = anyio.Event()

    async def never_ends(exchange: Exchange) -> None:
        await exchange.start(200, {})
        await exchange.write(b"first")
        await exchange.client_gone()
        closed.set()

    exchange = FakeExchange(Head())
    exchange.on_data = exchange.gone.set
    async with Upstream(never_ends).server as server:
        await serve(server.url, exchange)
        with anyio.fail_after(LIMIT):
            await closed.wait()

    assert exchange.data == b"first"
    assert not exchange.ended


async def test_a_request_that_the_host_waited_for_in_vain_is_counted_and_one_that_did_not_arrive_is_not() -> (
    None
):
    async def answers_never(exchange: Exchange) -> None:
        await exchange.client_gone()

    guard = ModelGuard()
    async with Upstream(answers_never).server as server, HttpClient(read_timeout=0.05) as client:
        url = server.url
        proxy = ModelProxy(ModelAccess(url, ()), guard, request_bytes=1 << 20)
        with anyio.fail_after(LIMIT):
            await proxy.serve(client, FakeExchange(Head()))
    used = guard.budget.so_far()
    assert used.requests == 1
    assert used.tokens >= len(BODY) // 2

    async with HttpClient() as client:  # nobody listens there any more
        proxy = ModelProxy(ModelAccess(url, ()), guard, request_bytes=1 << 20)
        await proxy.serve(client, FakeExchange(Head()))
    assert guard.budget.so_far() == used


async def test_redirects_are_not_followed_with_the_key() -> None:
    async def away(exchange: Exchange) -> None:
        await exchange.reply(307, b"", {"location": "http://127.0.0.1:1/v1/messages"})

    async with Upstream(away).server as server:
        done = await serve(server.url, FakeExchange(Head()))

    assert done.status == 307


async def test_an_error_of_the_transport_holds_no_request_and_so_no_key() -> None:
    async with LoopbackServer(reply_ok) as server:
        url = server.url  # nobody listens there once the block is left
    async with HttpClient() as client:
        with pytest.raises(TransportError) as caught:
            async with client.stream("POST", url, [("x-api-key", KEY)], b""):
                raise AssertionError("reached")

    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_the_key_is_not_in_a_repr() -> None:
    access = ModelAccess("https://api.example", (("x-api-key", KEY),))

    assert KEY not in repr(access) + str(access) + repr(ModelProxy(access, request_bytes=1))


def test_a_password_in_the_address_is_in_no_repr_and_in_no_sandbox() -> None:
    address = "https://user:hunter2@api.example/x"
    assert repr(ModelAccess(address, ())) == "<ModelAccess api.example>"
    env = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": address}
    with pytest.raises(ConfigError, match="Use credentials='host'") as caught:
        let_provider_add(env)
    assert "hunter2" not in str(caught.value) + str(env)
