"""The host's end of the agent's model traffic: adds the key that the sandbox does not have."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urljoin, urlsplit

import anyio

from agenthost.agent.byte_budget import ByteBudget, Share
from agenthost.agent.credentials import ModelAccess
from agenthost.errors import AgentHostError
from agenthost.log_once import SHOWN, LogOnce
from agenthost.threads import in_thread

if TYPE_CHECKING:
    from agenthost.http import HttpClient, StreamedAnswer

_log = logging.getLogger("agenthost.agent.model")

Headers = Sequence[tuple[str, str]]

# What the CLI asks for. The rest of the API (files, batches, keys, billing) is out of an agent's reach.
_ALLOWED = {("POST", "/v1/messages"), ("POST", "/v1/messages/count_tokens"), ("HEAD", "/api/hello")}
_QUERY = re.compile(r"[A-Za-z0-9_.~=&-]*\Z")
_CONCURRENT = 32
_REDIRECTS = 5  # of one request, within the same server
# Bytes of request bodies held at once, beside _SMALL of each. A body is held until its answer is complete.
_IN_FLIGHT = 128 * 1024 * 1024
_SMALL = 1024 * 1024

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
# The sandbox has none that are meant to count.
_CREDENTIALS = frozenset({"authorization", "x-api-key", "cookie", "forwarded"})


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

    def __init__(self, access: ModelAccess, *, request_bytes: int, in_flight: int = _IN_FLIGHT) -> None:
        """Make a proxy.

        Args:
            access: Where to, with which credential.
            request_bytes: Largest request, in bytes; a larger one gets 413.
            in_flight: Bytes of requests held at once; a large one waits until there is room for it. One of
                the largest always has room.
        """
        self._access = access
        self._request_bytes = request_bytes
        self._budget = ByteBudget(max(in_flight, request_bytes))
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
        path, _, query = head.path.partition("?")
        if (head.method, path) not in _ALLOWED or not _QUERY.match(query):
            what = "the agent asked for %s %s, which is none of the model's"
            self._warnings.warning("path", what, head.method, path)
            shown = f"{head.method[:SHOWN]} {path[:SHOWN]}"
            await _refuse(exchange, 403, "permission_error", f"{shown} is not open to an agent")
            return
        body = await self._read(exchange, share)
        if body is None:
            message = f"the request is larger than {self._request_bytes} bytes"
            await _refuse(exchange, 413, "request_too_large", message)
            return
        await self._pass_on(client, exchange, head, body)

    async def _pass_on(self, client: HttpClient, exchange: ModelExchange, head: Head, body: bytes) -> None:
        """Ask the model and pass its answer on; whatever fails, the exchange gets an answer or is cut."""
        from agenthost.http import TransportError

        begun = False
        try:
            async with self._ask(client, head, body) as answer:
                await exchange.send_head(answer.status, _end_to_end(answer.headers))
                begun = True
                async for chunk in answer.chunks:
                    await exchange.send(chunk)
                exchange.end()
                return
        except TransportError as error:
            message, permanent = f"the model could not be reached: {error}", error.permanent
        except (AgentHostError, OSError):
            raise  # of the exchange: nobody waits for an answer
        except Exception as error:  # noqa: BLE001 - whatever it is, the agent must not wait for ever
            # Its text might quote a header.
            message, permanent = f"the request could not be served ({type(error).__name__})", False
        self._warnings.warning("model", "%s", message)
        if begun:
            await exchange.cut()
        elif permanent:
            # The CLI asks again after a 5xx for minutes, and says that it is usually temporary.
            await _refuse(exchange, 400, "invalid_request_error", message)
        else:
            await _refuse(exchange, 502, "api_error", message)

    @asynccontextmanager
    async def _ask(self, client: HttpClient, head: Head, body: bytes) -> AsyncGenerator[StreamedAnswer]:
        """Yield the model's answer; a redirect within the same server is followed, no other is."""
        url = self._access.base_url + head.path
        headers = self._headers(head.headers)
        for _ in range(_REDIRECTS):
            async with client.stream(head.method, url, headers, body) as answer:
                following = _redirected(url, answer)
                if following is None:
                    yield answer
                    return
            url = following
        async with client.stream(head.method, url, headers, body) as answer:
            yield answer

    async def _read(self, exchange: ModelExchange, share: Share) -> bytes | None:
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
        share.shrink(size)
        return b"".join(parts)

    def _headers(self, headers: Headers) -> Headers:
        own = self._access.headers()
        names = {name for name, _ in own}
        dropped = _HOP_BY_HOP | _CREDENTIALS | names | {_ENCODING}
        kept = [(name.lower(), value) for name, value in headers if name.lower() not in dropped]
        # As it is: the guest looks for the last event of an answer whose driver has changed.
        return [*kept, *own, (_ENCODING, "identity")]


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


async def _refuse(exchange: ModelExchange, status: int, kind: str, message: str) -> None:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": f"agenthost: {message}"}})
    await exchange.send_head(status, [("content-type", "application/json")])
    await exchange.send(body.encode())
    exchange.end()


async def load_http_client() -> type[HttpClient]:
    """Import the HTTP client in a thread; it takes a few hundred milliseconds."""

    def load() -> type[HttpClient]:
        from agenthost.http import HttpClient

        return HttpClient

    return await in_thread(load)
