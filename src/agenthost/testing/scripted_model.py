"""A Messages API on loopback that plays a script, so that the real ``claude`` CLI runs without an account.

    async with ScriptedModel([ToolUse("Bash", {"command": "ls"}), Text("Done.")]) as model:
        env = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "sk-ant-scripted"}
        ...
    assert "README.md" in model.turns[1].tool_results[0].text

The script answers what the agent's own conversation asks for, one step for each request in order of
arrival. Questions that the CLI asks for itself are answered by their schema and take no step.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, cast

import anyio

from agenthost.testing.answers import Pause, by_schema, encode_events, whole_message
from agenthost.testing.loopback import ClientGoneError, Exchange, LoopbackServer
from agenthost.testing.requests import Kind, ModelRequest
from agenthost.testing.script import Answer, ApiError, Cut, Hold, Step, Text, Turn, as_turn

_SEND_SIZE = 32 * 1024
_EVENT_STREAM = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


class ScriptError(AssertionError):
    """The script and what was asked for do not fit together."""


class ScriptedModel:
    """A Messages API server on 127.0.0.1 while its block is open.

    Attributes:
        url: For ``ANTHROPIC_BASE_URL``.
        requests: Every request, in order of arrival.
        errors: What went wrong: a request beyond the script, a step that raised. Each was answered with
            HTTP 410 and this text.
    """

    def __init__(
        self,
        script: Sequence[Step] | Callable[[ModelRequest], Answer] = (),
        *,
        api_key: str | None = None,
        strict: bool = True,
    ) -> None:
        """Make a model that plays a script.

        Args:
            script: Steps, one for each model request; or one function that answers them all.
            api_key: When given, a request with another credential gets 401 and takes no step.
            strict: Leaving the block raises ScriptError when ``errors`` is not empty.
        """
        self._forever = script if callable(script) else None
        self._steps: list[Step] = [] if callable(script) else list(script)
        self._next = 0
        self._api_key = api_key
        self._strict = strict
        self._server = LoopbackServer(self._handle)
        self._causes: list[Exception] = []
        self.requests: list[ModelRequest] = []
        self.errors: list[str] = []

    @property
    def url(self) -> str:
        """Where it listens, for ``ANTHROPIC_BASE_URL``."""
        return self._server.url

    @property
    def turns(self) -> Sequence[ModelRequest]:
        """The requests that the script answered, in order."""
        return [request for request in self.requests if request.step is not None]

    @property
    def remaining(self) -> int:
        """How many steps have not been asked for; 0 when one function answers them all."""
        return max(0, len(self._steps) - self._next)

    def add(self, *steps: Step) -> None:
        """Add steps at the end of the script, at any time."""
        self._steps.extend(steps)

    def assert_played(self) -> None:
        """Raise ScriptError unless every step was asked for, and nothing beyond them."""
        self._raise_errors()
        if self.remaining:
            raise ScriptError(f"{self.remaining} of {len(self._steps)} steps were never asked for")

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.__aexit__(exc_type, exc, trace)
        if exc is None and self._strict:
            self._raise_errors()

    def _raise_errors(self) -> None:
        if self.errors:
            raise ScriptError("; ".join(self.errors)) from (self._causes[0] if self._causes else None)

    async def _handle(self, exchange: Exchange) -> None:
        path, _, query = exchange.request.target.partition("?")
        body = _parse(exchange.request.body)
        kind = _kind(exchange.request.method, path, body)
        request = ModelRequest(
            method=exchange.request.method,
            path=path,
            query=query,
            headers=exchange.request.headers,
            body=body,
            kind=kind,
        )
        if self._api_key is not None and kind != "probe" and request.api_key != self._api_key:
            self.requests.append(request)
            await _refuse(exchange, ApiError(401, "invalid x-api-key", retry=False))
            return
        if kind == "turn":
            request = replace(request, step=self._next)
            self._next += 1
        self.requests.append(request)
        match kind:
            case "turn":
                await self._play(exchange, request)
            case "side_query":
                schema: dict[str, Any] = body["output_config"]["format"].get("schema") or {}
                await _send(exchange, request, Turn(Text(json.dumps(by_schema(schema)))))
            case "count_tokens":
                await _send_json(exchange, 200, {"input_tokens": max(1, len(exchange.request.body) // 4)})
            case "probe":
                await exchange.reply(200)
            case "unknown":
                await _refuse(exchange, ApiError(404, f"ScriptedModel has no {request.method} {path}"))

    async def _play(self, exchange: Exchange, request: ModelRequest) -> None:
        number = request.step or 0
        if self._forever is None and number >= len(self._steps):
            await self._fail(
                exchange,
                f"request {number + 1} is beyond the script of {len(self._steps)} steps; "
                f"its prompt begins {request.prompt[:80]!r}",
            )
            return
        step = self._forever or self._steps[number]
        try:
            if callable(step):
                made = step(request)
                answer = await made if inspect.isawaitable(made) else made
            else:
                answer = step
            turn = as_turn(answer)
        except Exception as error:  # noqa: BLE001 - the test's own function; raised again when the block is left
            self._causes.append(error)
            await self._fail(exchange, f"step {number + 1} raised {type(error).__name__}: {error}")
            return
        if isinstance(turn, ApiError):
            await _refuse(exchange, turn)
        else:
            await _send(exchange, request, turn)

    async def _fail(self, exchange: Exchange, message: str) -> None:
        self.errors.append(message)
        # 410 and no retry: the CLI asks again on most errors, on 400 too, and the reason would drown in that.
        await _refuse(exchange, ApiError(410, f"ScriptedModel: {message}", retry=False))


def _kind(method: str, path: str, body: dict[str, Any]) -> Kind:
    if method == "HEAD":
        return "probe"
    if method == "POST" and path == "/v1/messages/count_tokens":
        return "count_tokens"
    if method == "POST" and path == "/v1/messages":
        output: dict[str, Any] = body.get("output_config") or {}
        wanted: dict[str, Any] = output.get("format") or {}
        asks_schema = wanted.get("type") == "json_schema"
        # An agent with structured output has tools; only the CLI's own questions have a schema and none.
        return "side_query" if asks_schema and not body.get("tools") else "turn"
    return "unknown"


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value: object = json.loads(body) if body else {}
    except ValueError:
        value = {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


async def _send(exchange: Exchange, request: ModelRequest, turn: Turn) -> None:
    if not request.body.get("stream"):
        for item in turn.items:
            if isinstance(item, Pause):
                await _pause(exchange, item)
        await _send_json(exchange, 200, whole_message(turn, request.model), dict(turn.headers))
        return
    await exchange.start(200, {**_EVENT_STREAM, **turn.headers})
    waiting = bytearray()
    for piece in encode_events(turn, request.model):
        if isinstance(piece, Pause):
            await exchange.write(bytes(waiting))
            waiting.clear()
            await _pause(exchange, piece)
            continue
        waiting += piece
        if len(waiting) >= _SEND_SIZE:
            await exchange.write(bytes(waiting))
            waiting.clear()
    await exchange.write(bytes(waiting))
    await exchange.finish()


async def _pause(exchange: Exchange, pause: Pause) -> None:
    if isinstance(pause, Cut):
        raise ClientGoneError("cut by the script")
    gone = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def until_gone() -> None:
            await exchange.client_gone()
            gone.set()
            tasks.cancel_scope.cancel()

        tasks.start_soon(until_gone)
        if isinstance(pause, Hold):
            await pause.event.wait()
            tasks.cancel_scope.cancel()
    if gone.is_set():
        raise ClientGoneError("while the script held the answer")


async def _refuse(exchange: Exchange, error: ApiError) -> None:
    headers = {} if error.retry is None else {"x-should-retry": str(error.retry).lower()}
    await _send_json(exchange, error.status, error.body(), {**headers, **error.headers})


async def _send_json(
    exchange: Exchange, status: int, value: dict[str, Any], headers: dict[str, str] | None = None
) -> None:
    await exchange.reply(
        status, json.dumps(value).encode(), {"content-type": "application/json", **(headers or {})}
    )
