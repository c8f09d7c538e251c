"""A vendor's edge on purpose: a reverse proxy that buffers, cuts, refuses, doubles and loses.

    async with Edge(EdgeRules(complete=True)) as edge, edge.serve("http://127.0.0.1:8080") as url:
        edge.plan(EdgeFault("lose"))
        ...  # requests to ``url`` reach the upstream as such an edge lets them

An emulator that has a handler of its own calls ``forward``.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal, Self

import anyio

from agenthost.http import HttpClient, StreamedAnswer, TransportError
from agenthost.testing.loopback import ClientGoneError, Exchange, HttpRequest, LoopbackServer

EdgeKind = Literal["drop", "lose", "refuse", "double", "cut", "delay"]

_KINDS: tuple[EdgeKind, ...] = ("drop", "lose", "refuse", "double", "cut", "delay")
_STATUSES = (502, 503, 504)
_FARTHEST = 100_000  # bytes of an answer that pass before a seeded fault cuts it, at most
_LONGEST = 0.05  # seconds that a seeded fault delays a request, at most
_PAGE = "<html>Désolé: the application does not answer.</html>".encode("latin-1")  # a page in an old encoding
_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length")


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeRules:
    """How an edge treats every request.

    Attributes:
        complete: Answers are held back until they are complete.
        collect: Bytes of an answer that are collected before they are passed on.
        longest: Seconds after which an answer that is still being passed on is cut.
        idle: Seconds without a byte after which an answer is cut.
        body_limit: Bytes of a request's body above which the edge answers 413.
        recoded: Bodies of requests go on in chunks.
    """

    complete: bool = False
    collect: int = 0
    longest: float = math.inf
    idle: float = math.inf
    body_limit: int | None = None
    recoded: bool = False


@dataclass(frozen=True, slots=True)
class EdgeFault:
    """What happens to one request.

    Attributes:
        kind: ``drop``: the connection ends before the upstream sees the request. ``lose``: the upstream has
            answered, and the answer is lost. ``refuse``: the edge answers by itself. ``double``: the upstream
            gets the request twice; the second answer counts. ``cut``: the connection ends within the answer.
            ``delay``: the request waits, and nothing else.
        status: Of ``refuse``.
        after: Bytes of the answer's body that pass before ``cut``.
        seconds: How long the request waits first.
        method: Of the requests that this may happen to, ``GET`` or ``POST``: others pass unharmed before it.
    """

    kind: EdgeKind
    status: int = 502
    after: int = 0
    seconds: float = 0.0
    method: str | None = None


class Edge:
    """Forwards requests, within its rules, and with the faults that are planned.

    Use it as ``async with``: leaving closes its connections to upstreams.

    Attributes:
        rules: May be replaced while requests are open; they keep the rules that they began with.
        struck: The faults that have happened.
        requests: Each request that came, whatever became of it.
    """

    def __init__(self, rules: EdgeRules | None = None) -> None:
        self.rules = rules or EdgeRules()
        self.struck: list[EdgeFault] = []
        self.requests: list[HttpRequest] = []
        self._planned: deque[EdgeFault | None] = deque()
        self._client = HttpClient(direct=True)

    def plan(self, *faults: EdgeFault | None) -> None:
        """Plan what happens to the next requests, one each; None is a good one."""
        self._planned.extend(faults)

    async def __aenter__(self) -> Self:
        """Open."""
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection to an upstream."""
        await self._client.__aexit__(exc_type, exc, trace)

    async def forward(
        self, exchange: Exchange, upstream: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer one request with what the upstream answers. For the handler of a LoopbackServer.

        Args:
            exchange: The request.
            upstream: A URL without a path.
            headers: Added to those of the request.

        Raises:
            ClientGoneError: The connection to the client is to be closed.
        """
        request = exchange.request
        self.requests.append(request)
        fault = self._next(request.method)
        rules = self.rules
        if fault.kind == "drop":
            raise ClientGoneError
        if fault.kind == "refuse":
            await exchange.reply(fault.status, _PAGE)
            return
        if rules.body_limit is not None and len(request.body) > rules.body_limit:
            await exchange.reply(413, b"the body is too large")
            return
        await anyio.sleep(fault.seconds)
        is_cut = False
        async with anyio.create_task_group() as tasks:

            async def end_with_the_client() -> None:
                await exchange.client_gone()
                tasks.cancel_scope.cancel()

            tasks.start_soon(end_with_the_client)
            try:
                if fault.kind == "double":
                    await self._send(exchange, upstream, headers, rules, replace(fault, kind="lose"))
                is_cut = not await self._send(exchange, upstream, headers, rules, fault)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError):
                is_cut = True  # the client has gone
            tasks.cancel_scope.cancel()
        if is_cut or not exchange.answered:
            raise ClientGoneError

    @asynccontextmanager
    async def serve(self, upstream: str | Callable[[HttpRequest], str]) -> AsyncGenerator[str]:
        """Serve on loopback, and yield the URL.

        Args:
            upstream: A URL without a path, or what returns one for each request.
        """

        async def handle(exchange: Exchange) -> None:
            where = upstream if isinstance(upstream, str) else upstream(exchange.request)
            await self.forward(exchange, where)

        async with LoopbackServer(handle) as server:
            yield server.url

    def _next(self, method: str) -> EdgeFault:
        if self._planned and (first := self._planned[0]) is not None and first.method not in (None, method):
            return EdgeFault("delay")
        fault = self._planned.popleft() if self._planned else None
        if fault is None:
            return EdgeFault("delay")
        self.struck.append(fault)
        return fault

    async def _send(
        self,
        exchange: Exchange,
        upstream: str,
        headers: Mapping[str, str] | None,
        rules: EdgeRules,
        fault: EdgeFault,
    ) -> bool:
        """Return whether the client has the whole answer."""
        request = exchange.request
        names = [(name, value) for name, value in request.headers.items() if name not in _HOP]
        body = _in_pieces(request.body) if rules.recoded and request.body else request.body
        try:
            async with self._client.stream(
                request.method, upstream + request.target, [*names, *(headers or {}).items()], body
            ) as answer:
                if fault.kind == "lose":
                    return False
                limit = fault.after if fault.kind == "cut" else None
                return await _pass_on(exchange, answer, rules, limit)
        except TransportError:
            if exchange.started or fault.kind == "lose":
                return False
            await exchange.reply(502, b"the upstream does not answer")
            return True


async def _pass_on(exchange: Exchange, answer: StreamedAnswer, rules: EdgeRules, limit: int | None) -> bool:
    headers = {name: value for name, value in answer.headers if name not in _HOP}
    is_streamed = not rules.complete and answer.status not in (204, 304)
    if is_streamed:
        await exchange.start(answer.status, headers)
    waiting, passed = bytearray(), 0
    until = anyio.current_time() + rules.longest
    while True:
        data = None
        with anyio.move_on_at(min(until, anyio.current_time() + rules.idle)):
            data = await anext(answer.chunks, b"")
        if data is None:
            return False
        waiting += data
        if limit is not None and passed + len(waiting) >= limit:
            if is_streamed:
                await exchange.write(bytes(waiting[: limit - passed]))
            return False
        if is_streamed and waiting and (not data or len(waiting) > rules.collect):
            await exchange.write(bytes(waiting))
            passed += len(waiting)
            waiting.clear()
        if not data:
            break
    if is_streamed:
        await exchange.finish()
    elif answer.status in (204, 304):
        await exchange.reply(answer.status, b"", headers)
    else:
        await exchange.reply(answer.status, bytes(waiting), headers)
    return True


async def _in_pieces(data: bytes) -> AsyncGenerator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


def seeded_faults(seed: int, *, count: int = 20) -> Iterable[EdgeFault | None]:
    """Return faults for ``count`` requests that the seed chooses: the same ones for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        yield (
            EdgeFault(
                chance.choice(_KINDS),
                status=chance.choice(_STATUSES),
                after=round(math.exp(chance.uniform(0, math.log(_FARTHEST)))),
                seconds=chance.uniform(0, _LONGEST),
            )
            if chance.random() < 0.5
            else None
        )
