"""Calls over REST: what is sent, what is made of each answer, and what is never shown."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from agenthost.adapter import rest
from agenthost.adapter.rest import RestClient, RestError, json_lines
from agenthost.http import TransportError
from agenthost.testing.loopback import Exchange, HttpRequest, LoopbackServer

TOKEN = "token-of-this-test"


@asynccontextmanager
async def serving(
    status: int, body: bytes, headers: dict[str, str] | None = None
) -> AsyncGenerator[tuple[RestClient, list[HttpRequest]]]:
    """Yield a client of a server with one answer, and the requests that come."""
    requests: list[HttpRequest] = []

    async def answer(exchange: Exchange) -> None:
        requests.append(exchange.request)
        await exchange.reply(status, body, headers)

    async with LoopbackServer(answer) as server:
        numbers = iter(range(10))
        client = RestClient(
            f"{server.url}/api/",
            lambda: ({"authorization": f"Bearer {TOKEN}", "x-call": str(next(numbers))}, {"team": "a b"}),
        )
        try:
            yield client, requests
        finally:
            await client.aclose()
            await client.aclose()


async def test_each_call_is_authorized_anew_and_sends_what_it_was_given() -> None:
    async with serving(200, b'{"name": "web"}') as (client, requests):
        assert await client.ask("GET", "/boxes", query={"page": 2, "none": None}) == {"name": "web"}
        await client.ask("POST", "/boxes", body={"size": 1})
        await client.ask("POST", "/files", body=b"\x1f\x8b", headers={"content-type": "application/gzip"})
    assert [request.target for request in requests] == [
        "/api/boxes?team=a+b&page=2",
        "/api/boxes?team=a+b",
        "/api/files?team=a+b",
    ]
    assert [request.headers["x-call"] for request in requests] == ["0", "1", "2"]
    assert json.loads(requests[1].body) == {"size": 1}
    assert (requests[2].headers["content-type"], requests[2].body) == ("application/gzip", b"\x1f\x8b")


async def test_no_body_is_an_empty_mapping() -> None:
    async with serving(204, b"") as (client, _):
        assert await client.ask("DELETE", "/boxes/web") == {}


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (400, b'{"error": {"code": "bad", "message": "no", "written": 7}}', "bad", "400 bad: no"),
        (429, b'{"code": 429, "message": "later"}', "429", "429 429: later"),
        (502, b"<html>bad gateway</html>", "", "502: <html>bad gateway</html>"),
        (500, b'{"error": "sorry"}', "", '500: {"error": "sorry"}'),
        (503, b"", "", "503: no reason was given"),
        (302, b"", "", "302: no reason was given"),
        (200, b"<html>", "", "200: the answer is not JSON: <html>"),
        (200, b"[" * 100_000, "", "200: the answer: a JSON text is nested too deeply"),
        (
            200,
            b"[" + b"{}," * 600_000 + b"0]",
            "",
            "200: the answer: a JSON text holds more than 500000 values",
        ),
    ],
)
async def test_an_answer_that_is_not_a_result_is_an_error_with_what_there_is(
    status: int, body: bytes, code: str, message: str
) -> None:
    async with serving(status, body, {"retry-after": "7"}) as (client, _):
        with pytest.raises(RestError) as caught:
            await client.ask("GET", "/boxes")
    error = caught.value
    assert (error.status_code, error.code, str(error)) == (status, code, message)
    assert error.retry_after == (None if status == 200 else 7)
    assert error.details.get("written") == (7 if status == 400 else None)


async def test_a_refusal_that_quotes_the_token_does_not_show_it() -> None:
    async with serving(400, f'{{"message": "bad header Bearer {TOKEN}"}}'.encode()) as (client, _):
        with pytest.raises(RestError, match=r"Bearer \*\*\*"):
            await client.ask("GET", "/boxes")


async def test_no_answer_is_an_error_of_the_transport() -> None:
    async with serving(200, b"{}") as (client, _):
        pass
    with pytest.raises(TransportError):
        await client.ask("GET", "/boxes")
    await client.aclose()


async def test_lines_of_json_come_whole_in_whatever_pieces_they_are_sent() -> None:
    text = b'{"a": 1}\n\n{"b": "two"}\n'
    for size in range(1, len(text)):

        async def chunks(size: int = size) -> AsyncIterator[bytes]:
            for begin in range(0, len(text), size):
                yield text[begin : begin + size]

        assert [value async for value in json_lines(chunks())] == [{"a": 1}, {"b": "two"}]


@pytest.mark.parametrize("text", [b'{"b', b"not JSON\n", b"[" * 200])
async def test_what_is_not_a_line_of_json_is_an_error_of_the_connection(
    monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    monkeypatch.setattr(rest, "_MOST_BYTES", 100)

    async def chunks() -> AsyncGenerator[bytes]:
        yield b'{"a": 1}\n'
        yield text

    async with aclosing(chunks()) as sent:
        values = json_lines(sent)
        assert await anext(values) == {"a": 1}
        with pytest.raises(ConnectionResetError):
            await anext(values)


@pytest.mark.parametrize("status", [200, 500])
async def test_an_answer_that_is_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(rest, "_MOST_BYTES", 100)
    async with serving(status, b'"' + b"x" * 1000 + b'"') as (client, _):
        with pytest.raises(RestError, match="longer than 100 bytes"):
            await client.ask("GET", "/boxes")
