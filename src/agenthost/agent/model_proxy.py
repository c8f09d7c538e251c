"""The host's end of the agent's model traffic: adds the key that the sandbox does not have."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import urljoin, urlsplit

import anyio

from agenthost.agent.byte_budget import ByteBudget, Share
from agenthost.agent.credentials import ModelAccess
from agenthost.agent.model_budget import Hold
from agenthost.agent.model_guard import ModelGuard
from agenthost.agent.model_policy import ModelRequest, Refusal
from agenthost.errors import AgentHostError
from agenthost.log_once import LogOnce
from agenthost.threads import in_thread

if TYPE_CHECKING:
    from agenthost.http import HttpClient, StreamedAnswer

_log = logging.getLogger("agenthost.agent.model")

T = TypeVar("T")
Headers = Sequence[tuple[str, str]]

_CONCURRENT = 32
_REDIRECTS = 5  # of one request, within the same server
# Bytes of request bodies held at once, beside _SMALL of each. A body is held until its answer is complete.
_IN_FLIGHT = 128 * 1024 * 1024
_SMALL = 1024 * 1024
_LONG_TO_READ = 256 * 1024  # bytes of a body that is looked at in a thread: a few milliseconds

# They belong to one connection and not to the message.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_ENCODING = "accept-encoding"


class Head(Protocol):
    """The head of a model request."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def headers(self) -> Headers: ...


class ModelExchange(Protocol):
    """One model request of the agent, and the answer to it: an Exchange of the guest's channel."""

    async def head(self) -> Head: ...
    async def receive(self) -> bytes: ...
    async def send_head(self, status: int, headers: Headers) -> None: ...
    async def send(self, data: bytes) -> None: ...
    def end(self) -> None: ...
    async def cut(self) -> None: ...
    async def wait_gone(self) -> None: ...


class ModelProxy:
    """Sends the agent's model requests to the model, and the answers back as they come."""

    def __init__(
        self,
        access: ModelAccess,
        guard: ModelGuard | None = None,
        *,
        request_bytes: int,
        in_flight: int = _IN_FLIGHT,
    ) -> None:
        """Make a proxy.

        Args:
            access: Where to, with which credential.
            guard: What may be asked, and how much of it. None: as of an agent without options.
            request_bytes: Largest request, in bytes; a larger one gets 413.
            in_flight: Bytes of requests held at once; a large one waits until there is room for it. One of
                the largest always has room.
        """
        self._access = access
        self._guard = guard or ModelGuard()
        self._request_bytes = request_bytes
        self._budget = ByteBudget(max(in_flight, request_bytes))
        self._reading = anyio.Lock()
        self._slots = anyio.Semaphore(_CONCURRENT)
        self._warnings = LogOnce(_log)

    async def serve(self, client: HttpClient, exchange: ModelExchange) -> None:
        """Serve one exchange to its end. Raises nothing but cancellation."""
        async with anyio.create_task_group() as tasks:

            async def until_gone() -> None:
                await exchange.wait_gone()
                tasks.cancel_scope.cancel()  # the agent hung up: nobody pays for the rest of the answer

            tasks.start_soon(until_gone)
            try:
                async with self._slots:
                    with Share(self._budget) as share:
                        await self._forward(client, exchange, share)
                # ``wait_gone`` returns when the agent has all of it.
            except (AgentHostError, OSError) as error:
                _log.info("a model request could not be served: %s", error)
                tasks.cancel_scope.cancel()

    async def _forward(self, client: HttpClient, exchange: ModelExchange, share: Share) -> None:
        head = await exchange.head()
        refusal = self._guard.policy.judge_head(head.method, head.path)
        if refusal is not None:
            await self._refuse(exchange, refusal)
            return
        is_packed = ("content-encoding", "gzip") in _lower(head.headers)
        body = await self._read(exchange, share, is_packed=is_packed)
        if body is None:
            message = f"the request is larger than {self._request_bytes} bytes"
            await _answer_error(exchange, 413, "request_too_large", message)
            return
        judge = partial(self._guard.policy.judge, head.method, head.path, head.headers, body)
        judged = judge() if len(body) <= _LONG_TO_READ else await self._beside(judge)
        if isinstance(judged, Refusal):
            await self._refuse(exchange, judged)
            return
        hold = await self._guard.admit(judged, len(body))
        if isinstance(hold, Refusal):
            await self._refuse(exchange, hold)
            return
        with self._guard.budget.settling(hold) if hold is not None else nullcontext():
            await self._pass_on(client, exchange, judged, hold)

    async def _refuse(self, exchange: ModelExchange, refusal: Refusal) -> None:
        self._guard.note_refusal(refusal)
        await _answer_error(exchange, refusal.status, refusal.error, refusal.message, final=True)

    async def _pass_on(
        self, client: HttpClient, exchange: ModelExchange, request: ModelRequest, hold: Hold | None
    ) -> None:
        """Ask the model and pass its answer on; whatever fails, the exchange gets an answer or is cut."""
        from agenthost.http import TransportError

        begun = was_sent = False
        try:
            async with self._ask(client, request) as answer:
                if hold is not None:
                    hold.answer(answer.status, answer.headers)
                await exchange.send_head(answer.status, _end_to_end(answer.headers))
                begun = True
                async for chunk in answer.chunks:
                    if hold is not None:
                        hold.take(chunk)
                    await exchange.send(chunk)
                if hold is not None:
                    hold.end()
                exchange.end()
                return
        except TransportError as error:
            message, permanent = f"the model could not be reached: {error}", error.permanent
            was_sent = error.was_sent
        except (AgentHostError, OSError):
            raise  # of the exchange: nobody waits for an answer
        except Exception as error:  # noqa: BLE001 - whatever it is, the agent must not wait for ever
            # Its text might quote a header.
            message, permanent = f"the request could not be served ({type(error).__name__})", False
        self._warnings.warning("model", "%s", message)
        if hold is not None and not begun and not was_sent:
            hold.fail(counts=False)
        if begun:
            await exchange.cut()
        elif permanent:
            # The CLI asks again after a 5xx for minutes, and says that it is usually temporary.
            await _answer_error(exchange, 400, "invalid_request_error", message)
        else:
            await _answer_error(exchange, 502, "api_error", message)

    @asynccontextmanager
    async def _ask(self, client: HttpClient, request: ModelRequest) -> AsyncGenerator[StreamedAnswer]:
        """Yield the model's answer; a redirect within the same server is followed, no other is."""
        url = self._access.base_url + request.target
        headers = self._headers(request.headers)
        for _ in range(_REDIRECTS):
            async with client.stream(request.method, url, headers, request.body) as answer:
                following = _redirected(url, answer)
                if following is None:
                    yield answer
                    return
            url = following
        async with client.stream(request.method, url, headers, request.body) as answer:
            yield answer

    async def _beside(self, work: Callable[[], T]) -> T:
        """Run something in a thread. One at a time: data takes many times the memory of its text."""
        async with self._reading:
            return await in_thread(work)

    async def _read(self, exchange: ModelExchange, share: Share, *, is_packed: bool) -> bytes | None:
        if is_packed:
            await share.take(self._request_bytes)  # what comes of a few bytes may be as large
        parts: list[bytes] = []
        size = 0
        while data := await exchange.receive():
            size += len(data)
            if size > self._request_bytes:
                return None
            if size > _SMALL and not share.held:
                # How long it will be is not known. The rest of it stays in the sandbox meanwhile.
                await share.take(self._request_bytes)
            parts.append(data)
        body: bytes | None = b"".join(parts)
        if is_packed:
            body = await self._beside(partial(_inflate, b"".join(parts), self._request_bytes))
        share.shrink(len(body or b""))
        return body

    def _headers(self, headers: Headers) -> Headers:
        own = self._access.headers()
        names = {name for name, _ in own}
        kept = [(name, value) for name, value in headers if name not in names]
        # As it is: the guest looks for the last event of an answer whose driver has changed.
        return [*kept, *own, (_ENCODING, "identity")]


def _lower(headers: Headers) -> set[tuple[str, str]]:
    return {(name.lower(), value.strip().lower()) for name, value in headers}


def _inflate(body: bytes, most: int) -> bytes | None:
    """Return a compressed body as it is sent, uncompressed; None where it is larger than ``most`` bytes.

    What is not compressed, or not all there, is no JSON either: it is refused as that.
    """
    inflating = zlib.decompressobj(wbits=31)
    try:
        plain = inflating.decompress(body, most + 1)
    except zlib.error:
        return b""
    return plain if len(plain) <= most else None


def _redirected(url: str, answer: StreamedAnswer) -> str | None:
    """Return where a redirect leads that keeps method, body and server; None where there is none."""
    if answer.status not in (307, 308):
        return None
    location = next((value for name, value in answer.headers if name == "location"), "")
    try:
        following = urljoin(url, location)
        is_same = urlsplit(following)[:2] == urlsplit(url)[:2]
    except ValueError:
        return None
    return following if location and is_same else None


def _end_to_end(headers: Headers) -> Headers:
    dropped = _HOP_BY_HOP | {"set-cookie"}
    return [(name, value) for name, value in headers if name.lower() not in dropped]


async def _answer_error(
    exchange: ModelExchange, status: int, kind: str, message: str, *, final: bool = False
) -> None:
    """Answer with an error of the API. ``final``: the same request would be answered so again."""
    body = json.dumps({"type": "error", "error": {"type": kind, "message": f"agenthost: {message}"}})
    headers = [("content-type", "application/json")]
    if final:
        headers.append(("x-should-retry", "false"))
    await exchange.send_head(status, headers)
    await exchange.send(body.encode())
    exchange.end()


async def load_http_client() -> type[HttpClient]:
    """Import the HTTP client in a thread; it takes a few hundred milliseconds."""

    def load() -> type[HttpClient]:
        from agenthost.http import HttpClient

        return HttpClient

    return await in_thread(load)
