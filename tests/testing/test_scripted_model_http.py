"""A ScriptedModel at the level of HTTP: what it records, refuses and survives."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest

from agenthost.testing import (
    ApiError,
    Hold,
    ModelRequest,
    ScriptedModel,
    ScriptError,
    Stall,
    Text,
    ToolUse,
    Turn,
)

HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        yield client


def blocks(response: httpx.Response) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = response.json()["content"]
    return content


async def test_a_request_that_does_not_stream_gets_one_message(client: httpx.AsyncClient) -> None:
    turn = Turn(Text("one ", end=False), Text("two"), ToolUse("Bash", {"command": "ls"}, id="toolu_1"))
    async with ScriptedModel([turn]) as model:
        response = await client.post(f"{model.url}/v1/messages", json=HELLO)
    assert blocks(response) == [
        {"type": "text", "text": "one two"},
        {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}},
    ]
    assert response.json()["stop_reason"] == "tool_use"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_may_have_headers_of_its_own(client: httpx.AsyncClient, stream: bool) -> None:
    turn = Turn(Text("one"), headers={"anthropic-ratelimit-unified-status": "allowed"})
    async with ScriptedModel([turn]) as model:
        response = await client.post(f"{model.url}/v1/messages", json={**HELLO, "stream": stream})
    assert response.headers["anthropic-ratelimit-unified-status"] == "allowed"


async def test_requests_are_recorded_with_lower_case_headers_and_parsed_body(
    client: httpx.AsyncClient,
) -> None:
    async with ScriptedModel([Text("a"), Text("b")]) as model:
        url = f"{model.url}/v1/messages?beta=true"
        await client.post(url, json=HELLO, headers={"X-Api-Key": "sk-1", "X-MiXed": "Value"})
        await client.post(url, json=HELLO, headers={"Authorization": "Bearer sk-2"})
        await client.head(f"{model.url}/api/hello")
    first, second, probe = model.requests
    assert (first.path, first.query, first.headers["x-mixed"]) == ("/v1/messages", "beta=true", "Value")
    assert (first.body, first.prompt, first.model) == (HELLO, "hello", "m")
    assert [first.api_key, second.api_key, probe.api_key] == ["sk-1", "sk-2", None]
    assert [request.kind for request in model.requests] == ["turn", "turn", "probe"]
    assert "sk-1" not in repr(first)


async def test_a_body_in_chunks_is_read(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for letter in json.dumps(HELLO):
            yield letter.encode()

    async with ScriptedModel([Text("a")]) as model:
        response = await client.post(f"{model.url}/v1/messages", content=chunks())
    assert response.status_code == 200
    assert model.turns[0].prompt == "hello"


async def test_a_request_beyond_the_script_is_refused_and_raised_at_the_end(
    client: httpx.AsyncClient,
) -> None:
    with pytest.raises(
        ScriptError, match="request 2 is beyond the script of 1 steps; its prompt begins 'hello'"
    ):
        async with ScriptedModel([Text("a")]) as model:
            await client.post(f"{model.url}/v1/messages", json=HELLO)
            response = await client.post(f"{model.url}/v1/messages", json=HELLO)
            assert response.status_code == 410
            assert response.headers["x-should-retry"] == "false"
            assert "beyond the script" in response.json()["error"]["message"]


async def test_a_step_that_raises_is_refused_and_raised_at_the_end(client: httpx.AsyncClient) -> None:
    def step(request: ModelRequest) -> Text:
        raise LookupError(f"no answer to {request.prompt}")

    with pytest.raises(ScriptError, match="step 1 raised LookupError: no answer to hello") as raised:
        async with ScriptedModel([step]) as model:
            response = await client.post(f"{model.url}/v1/messages", json=HELLO)
            assert response.status_code == 410
    assert isinstance(raised.value.__cause__, LookupError)


async def test_an_exception_of_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with ScriptedModel([Text("a")]):
            raise KeyError("mine")


async def test_steps_never_asked_for_are_named() -> None:
    async with ScriptedModel([Text("a"), Text("b")]) as model:
        pass
    with pytest.raises(ScriptError, match="2 of 2 steps were never asked for"):
        model.assert_played()


async def test_steps_may_be_added_and_one_function_may_answer_everything(client: httpx.AsyncClient) -> None:
    async with ScriptedModel() as model:
        model.add(Text("late"))
        response = await client.post(f"{model.url}/v1/messages", json=HELLO)
        assert blocks(response)[0]["text"] == "late"
    async with ScriptedModel(lambda request: Text(request.prompt.upper())) as model:
        answers = [await client.post(f"{model.url}/v1/messages", json=HELLO) for _ in range(3)]
        assert [blocks(answer)[0]["text"] for answer in answers] == ["HELLO"] * 3


async def test_another_credential_is_refused_without_taking_a_step(client: httpx.AsyncClient) -> None:
    async with ScriptedModel([Text("a")], api_key="right") as model:
        url = f"{model.url}/v1/messages"
        for key in ("wrong", ""):
            response = await client.post(url, json=HELLO, headers={"x-api-key": key})
            assert (response.status_code, response.json()["error"]["type"]) == (401, "authentication_error")
        assert (await client.post(url, json=HELLO, headers={"x-api-key": "right"})).status_code == 200
    assert [request.step for request in model.requests] == [None, None, 0]


async def test_a_question_with_a_schema_is_answered_by_it(client: httpx.AsyncClient) -> None:
    schema = {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "kind": {"enum": ["a", "b"]},
            "tags": {"type": "array", "items": {"type": "integer"}, "minItems": 2},
            "maybe": {"type": ["null", "string"]},
            "sure": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        },
    }
    body = {**HELLO, "output_config": {"format": {"type": "json_schema", "schema": schema}}}
    async with ScriptedModel([]) as model:
        response = await client.post(f"{model.url}/v1/messages", json=body)
    assert json.loads(blocks(response)[0]["text"]) == {
        "title": "Scripted answer",
        "kind": "a",
        "tags": [1, 1],
        "maybe": None,
        "sure": True,
    }
    assert model.requests[0].kind == "side_query"


async def test_tokens_are_counted_and_unknown_paths_are_refused_by_name(client: httpx.AsyncClient) -> None:
    async with ScriptedModel([]) as model:
        counted = await client.post(f"{model.url}/v1/messages/count_tokens", json=HELLO)
        unknown = await client.get(f"{model.url}/v1/models")
    assert counted.json()["input_tokens"] >= 1
    assert unknown.status_code == 404
    assert "GET /v1/models" in unknown.json()["error"]["message"]


async def test_an_api_error_has_the_type_and_headers_of_the_api(client: httpx.AsyncClient) -> None:
    async with ScriptedModel([ApiError(429, "slow down", headers={"retry-after": "7"})]) as model:
        response = await client.post(f"{model.url}/v1/messages", json=HELLO)
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")
    assert response.json()["error"] == {"type": "rate_limit_error", "message": "slow down"}


async def test_an_async_step_holds_the_request_before_its_head(client: httpx.AsyncClient) -> None:
    asked, answer = anyio.Event(), anyio.Event()

    async def step(request: ModelRequest) -> Text:
        asked.set()
        await answer.wait()
        return Text(request.prompt)

    responses: list[httpx.Response] = []

    async def ask(url: str) -> None:
        responses.append(await client.post(f"{url}/v1/messages", json=HELLO))

    async with ScriptedModel([step]) as model, anyio.create_task_group() as tasks:
        tasks.start_soon(ask, model.url)
        await asked.wait()
        assert not responses
        answer.set()
    assert blocks(responses[0])[0]["text"] == "hello"


async def test_a_stall_sends_the_head_and_ends_when_the_block_is_left(client: httpx.AsyncClient) -> None:
    ended: list[Exception] = []

    async def ask(url: str, head: anyio.Event) -> None:
        async with client.stream("POST", f"{url}/v1/messages", json={**HELLO, "stream": True}) as response:
            assert response.status_code == 200
            head.set()
            try:
                await response.aread()
            except httpx.RemoteProtocolError as error:
                ended.append(error)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            head = anyio.Event()
            async with ScriptedModel([Stall()]) as model:
                tasks.start_soon(ask, model.url, head)
                await head.wait()
    assert len(ended) == 1


async def test_a_client_that_goes_away_frees_the_held_step(client: httpx.AsyncClient) -> None:
    never = anyio.Event()
    async with ScriptedModel([Hold(never), Text("next")]) as model:
        url = f"{model.url}/v1/messages"
        async with client.stream("POST", url, json={**HELLO, "stream": True}) as response:
            assert response.status_code == 200
        with anyio.fail_after(30):
            assert blocks(await client.post(url, json=HELLO))[0]["text"] == "next"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ncontent-length: many\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nfffffffff\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 300_000, b"431"),
    ],
)
async def test_what_is_no_http_is_refused_and_the_server_lives(sent: bytes, status: bytes) -> None:
    async with ScriptedModel([Text("a")]) as model:
        port = int(model.url.rpartition(":")[2])
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(sent)
            assert (await stream.receive()).startswith(b"HTTP/1.1 " + status)
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.post(f"{model.url}/v1/messages", json=HELLO)).status_code == 200


async def test_a_client_may_wait_for_leave_to_send_its_body() -> None:
    body = json.dumps(HELLO).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: {len(body)}\r\n\r\n"
    async with ScriptedModel([Text("a")]) as model:
        port = int(model.url.rpartition(":")[2])
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(head.encode())
            assert (await stream.receive()).startswith(b"HTTP/1.1 100 ")
            await stream.send(body)
            assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (Text("abcde", delta=2), ["ab", "cd", "e"]),
        (Text.deltas(3, 4), ["000 ", "001 ", "002 "]),
        (Text.deltas(3, 1), ["0", "1", "2"]),
        (Text.deltas(2, 2), ["0 ", "1 "]),
        (Text(""), [""]),
    ],
)
def test_texts_are_cut_into_deltas(text: Text, pieces: list[str]) -> None:
    assert list(text.pieces()) == pieces


def test_what_cannot_be_played_is_refused_when_it_is_written() -> None:
    with pytest.raises(TypeError, match="cannot stand in a turn"):
        Turn("hello")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - the mistake under test
    with pytest.raises(ValueError, match="at least 1"):
        Text("hello", delta=0)
    with pytest.raises(ValueError, match="at least 1"):
        Text.deltas(0)
