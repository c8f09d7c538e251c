"""A carrier over HTTP, for a sandbox that can only expose a port. See docs/decisions/008."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING

import anyio

from agenthost.supports import Endpoint
from agenthost.wire.admission import HEADER, carrier_key, port_key, sign

if TYPE_CHECKING:
    from agenthost.http import StreamedAnswer

_log = logging.getLogger("agenthost.link")

BATCH = 256 * 1024  # bytes of one request up: what the guest takes
_LEAST = 4 * 1024  # bytes of a request that everything between has to let through
_GREETING = 33  # bytes: the guest's nonce and a newline
_HELLO = 3.0  # seconds for the first bytes; then something between holds answers back until they are complete
_POLL = 6.0  # seconds for the first bytes by a poll, which is answered at once; and for a connection
_CLOSING = 5.0  # seconds that closing may take
_ANSWER = 20.0  # seconds for the answer to a batch
# Seconds of failed requests in a row after which a carrier has ended: the link then asks the provider how the
# sandbox is, and dials anew. The guest waits for 10.
_PATIENCE = 2.0
_DELAYS = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds before a request is repeated; the last one again and again
_STAY = 300.0  # seconds for which a later dial polls at once, where streaming did not work
# Answers of what lies between, while the guest cannot be reached: the request is repeated.
_BUSY = frozenset([408, 425, 429, 500, 502, 503, 504])


class HttpDialer:
    """Dials the guest of one sandbox through its port.

    Args:
        endpoint: Returns where the port is reached, and the vendor's headers for it. Called at each dial, so
            that tokens may change; what it raises, ``dial`` raises.
        guest_key: What proves the guest. See ``GuestProvider.guest_key``.
    """

    def __init__(self, endpoint: Callable[[], Awaitable[Endpoint]], *, guest_key: bytes) -> None:
        self._endpoint = endpoint
        self._key = port_key(guest_key)
        self._polls_until = 0.0
        self.batch = BATCH  # bytes of one request up, less where something between refuses them

    async def dial(self) -> HttpCarrier:
        """Return a new carrier.

        Raises:
            OSError: Nothing answers, or something that is not the guest, or a guest with another key.
        """
        endpoint = await self._endpoint()
        if anyio.current_time() < self._polls_until:
            return await self._open(endpoint, polls=True, within=_POLL)
        try:
            return await self._open(endpoint, polls=False, within=_HELLO)
        except TimeoutError:
            _log.info("the guest's answers do not arrive while they are made: polling")
        carrier = await self._open(endpoint, polls=True, within=_POLL)
        self._polls_until = anyio.current_time() + _STAY
        return carrier

    async def _open(self, endpoint: Endpoint, *, polls: bool, within: float) -> HttpCarrier:
        carrier = HttpCarrier(self, endpoint, self._key, polls=polls)
        try:
            with anyio.fail_after(within):
                await carrier.open()
        except BaseException:
            with anyio.move_on_after(_CLOSING, shield=True):
                await carrier.aclose()
            raise
        return carrier


class HttpCarrier:
    """One carrier. Use ``HttpDialer.dial``."""

    binary = True

    def __init__(self, dialer: HttpDialer, endpoint: Endpoint, key: bytes, *, polls: bool) -> None:
        from agenthost.http import HttpClient  # here, because importing httpx takes long

        self._client = HttpClient(connect_timeout=_POLL)
        self._dialer = dialer
        self._url = endpoint.url.rstrip("/")
        self._headers = [*endpoint.headers.items(), ("cache-control", "no-store")]
        self._key = key
        self._name = secrets.token_hex(16)
        self._mode = "poll" if polls else ""
        self._down: AsyncExitStack | None = None  # an answer that is being read
        self._chunks: AsyncIterator[bytes] | None = None
        self._requests = 0
        self._have = 0  # bytes received
        self._batch = 0
        self._first = b""  # bytes that came with the greeting
        self._closed = False

    async def open(self) -> None:
        """Connect. For the dialer.

        Raises:
            OSError: As ``HttpDialer.dial``.
        """
        data = b""
        await self._ask()
        while len(data) <= _GREETING:  # the guest's first frame follows
            assert self._chunks is not None
            piece = await anext(self._chunks, b"")
            if not piece:
                raise ConnectionError("the answer of the guest's port ended at once")
            data += piece
        nonce, end = data[: _GREETING - 1], data[_GREETING - 1 : _GREETING]
        if end != b"\n" or nonce.strip(b"0123456789abcdef"):
            raise ConnectionError("what answers at the guest's port is not the guest")
        self._have = len(data)
        self._first = data[_GREETING:]
        self._key = carrier_key(self._key, self._name, nonce.decode())

    async def send(self, data: bytes) -> None:
        """Send all bytes. OSError when the guest cannot be reached, or has given the carrier up."""
        view = memoryview(data)
        while view:
            sent = await self._post(bytes(view[: self._dialer.batch]))
            view = view[sent:]

    async def receive(self) -> bytes:
        """Return the next bytes, ``b""`` at the end."""
        if self._first:
            first, self._first = self._first, b""
            return first
        trouble = _Trouble()
        while not self._closed:
            try:
                if self._chunks is None:
                    await self._ask()
                assert self._chunks is not None
                data = await anext(self._chunks, b"")
            except OSError as error:
                await self._drop()
                if not await trouble.is_passing(error):
                    return b""
            else:
                if data:
                    self._have += len(data)
                    return data
                await self._drop()  # a complete answer: ask for what comes behind it
        return b""

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        self._closed = True
        await self._drop()
        await self._client.aclose()

    async def _ask(self) -> None:
        number, self._requests = self._requests, self._requests + 1
        query = f"carrier={self._name}&request={number}&have={self._have}"
        if self._mode:
            query += f"&mode={self._mode}"
        token = sign(self._key, "down", self._name, number, self._have, self._mode)
        self._down = AsyncExitStack()
        answer = await self._down.enter_async_context(self._request("GET", f"/v1/down?{query}", token))
        if answer.status != 200:
            await self._drop()
            raise _refusal(answer.status)
        self._chunks = answer.chunks

    async def _drop(self) -> None:
        down, self._down, self._chunks = self._down, None, None
        if down is not None:
            await down.aclose()

    async def _post(self, body: bytes) -> int:
        """Send the beginning of ``body`` as the next batch; return how much."""
        trouble = _Trouble()
        while True:
            token = sign(self._key, "up", self._name, self._batch)
            target = f"/v1/up?carrier={self._name}&batch={self._batch}"
            try:
                with anyio.fail_after(_ANSWER):
                    async with self._request("POST", target, token, body) as answer:
                        status = answer.status
                        async for _ in answer.chunks:  # to the end: so that the connection is kept
                            pass
            except OSError as error:
                if not await trouble.is_passing(error):
                    raise
                continue
            if status == 204:
                self._batch += 1
                return len(body)
            if status == 413 and len(body) > _LEAST:
                # Something between has refused it: the guest, which takes more, has not seen it.
                self._dialer.batch = max(_LEAST, len(body) // 2)
                body = body[: self._dialer.batch]
                continue
            refusal = _refusal(status)
            if not await trouble.is_passing(refusal):
                raise refusal

    def _request(
        self, method: str, target: str, token: str, body: bytes = b""
    ) -> AbstractAsyncContextManager[StreamedAnswer]:
        headers = [*self._headers, (HEADER, token)]
        return self._client.stream(method, self._url + target, headers, body)


class _RefusedError(ConnectionError):
    """The same request would be refused again."""


class _Trouble:
    """Requests that have failed in a row."""

    def __init__(self) -> None:
        self._until: float | None = None
        self._count = 0

    async def is_passing(self, error: Exception) -> bool:
        """Wait before the request is repeated; False where that has lasted too long."""
        now = anyio.current_time()
        if self._until is None:
            self._until = now + _PATIENCE
        delay = _DELAYS[min(self._count, len(_DELAYS) - 1)]
        self._count += 1
        if isinstance(error, _RefusedError) or now + delay > self._until:
            _log.debug("a carrier has ended: %s", error)
            return False
        await anyio.sleep(delay)
        return True


def _refusal(status: int) -> ConnectionError:
    if status in _BUSY:
        return ConnectionError(f"the guest's port cannot be reached: status {status}")
    if status == 404:
        return _RefusedError(
            "the guest's port answers with status 404: the guest does not run, or was made with another "
            "deployment secret"
        )
    return _RefusedError(f"the guest's port answers with status {status}")
