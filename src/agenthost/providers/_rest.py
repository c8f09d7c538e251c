"""HTTP for everybody: the only importer of httpx. No type of it leaves this module.

Importing this module costs a few hundred milliseconds; import it where the first request is near.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Self

import httpx

Headers = Sequence[tuple[str, str]]


class TransportError(OSError):
    """No answer, or not all of one. The message names the kind of failure and the host, nothing else."""


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """An answer whose body is still to come.

    Attributes:
        status: HTTP status.
        headers: As they were sent, in order; names in lower case.
        chunks: The body as it was sent, still encoded as ``content-encoding`` says.
    """

    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]


class HttpClient:
    """Connections that are kept while the block is open. Follows no redirect and keeps no cookie."""

    def __init__(
        self,
        *,
        connect_timeout: float = 15.0,
        read_timeout: float = 600.0,
        direct: bool = False,
        unix_socket: str | None = None,
    ) -> None:
        """Make a client; it connects to nothing yet.

        Args:
            connect_timeout: Seconds for a connection, TLS included.
            read_timeout: Seconds between two pieces of an answer.
            direct: Never through a proxy, whatever the environment says, and without TLS.
            unix_socket: Path of a unix socket that every request goes to, directly.
        """
        timeout = httpx.Timeout(read_timeout, connect=connect_timeout)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=16)
        if direct or unix_socket is not None:
            transport = httpx.AsyncHTTPTransport(
                uds=unix_socket, limits=limits, verify=False, trust_env=False
            )
            self._client = httpx.AsyncClient(
                timeout=timeout, transport=transport, follow_redirects=False, trust_env=False
            )
        else:
            self._client = httpx.AsyncClient(
                timeout=timeout, limits=limits, follow_redirects=False, verify=_certificates()
            )
        # What httpx would say for us: the one who asks says it, or nobody.
        self._client.headers.clear()

    async def __aenter__(self) -> Self:
        """Open."""
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self._client.__aexit__(exc_type, exc, trace)

    async def aclose(self) -> None:
        """Close every connection, where no block does. Idempotent."""
        await self._client.aclose()

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, headers: Headers, body: bytes | AsyncIterable[bytes]
    ) -> AsyncGenerator[StreamedAnswer]:
        """Send a request and yield its answer when its head is there.

        A body in pieces is sent as it comes, chunked.

        Raises:
            TransportError: Nothing, or not all of it, came.
        """
        with _Mapped(url):
            request = self._client.build_request(method, url, headers=list(headers), content=body)
            response = await self._client.send(request, stream=True)
        chunks = _chunks(response, url)
        try:
            self._client.cookies.clear()
            pairs = [(name.lower(), value) for name, value in response.headers.multi_items()]
            yield StreamedAnswer(response.status_code, pairs, chunks)
        finally:
            try:
                await chunks.aclose()  # who read a part of it leaves it unfinished
            finally:
                await response.aclose()


@cache
def _certificates() -> ssl.SSLContext:
    """Return what servers are checked with: read once, since it takes half a megabyte for each client."""
    return httpx.create_ssl_context()


async def _chunks(response: httpx.Response, url: str) -> AsyncGenerator[bytes]:
    with _Mapped(url):
        async for chunk in response.aiter_raw():
            yield chunk


class _Mapped:
    """Turns httpx's errors into ours, without what they might quote."""

    def __init__(self, url: str) -> None:
        self._host = httpx.URL(url).host

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise ours in place of httpx's."""
        if isinstance(exc, httpx.HTTPError | httpx.InvalidURL | httpx.StreamError):
            error = TransportError(f"{type(exc).__name__} at {self._host}")
            try:
                raise error
            finally:
                # Its request holds the headers, and with them the key.
                error.__context__ = None
