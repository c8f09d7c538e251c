"""HTTP for everybody: the only importer of httpx. No type of it leaves this module.

Importing this module costs a few hundred milliseconds; import it where the first request is near.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
import ssl
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import anyio
import httpx

from agenthost.trust import trusted_authorities

Headers = Sequence[tuple[str, str]]

# httpx would import it with the first request, and hold up the event loop for it.
importlib.import_module("httpcore")

# What a vendor's client raises that is built on httpx, most particular first, for an adapter's table of
# errors.
HTTPX_TIMEOUT, HTTPX_CONNECT_ERROR, HTTPX_TRANSPORT_ERROR = (
    httpx.TimeoutException,
    httpx.ConnectError,
    httpx.TransportError,
)


class TransportError(OSError):
    """No answer, or not all of one. The message names the kind of failure and the host, nothing else.

    Attributes:
        permanent: Whether the same request would fail again, since something on this machine is wrong.
        was_sent: Whether the server had the whole request, and may have done what it asks for.
    """

    def __init__(self, message: str, *, permanent: bool = False, was_sent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.was_sent = was_sent


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
        """Make a client; it connects to nothing yet, and nothing in the environment makes this fail.

        The environment's proxies (``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``) are read for
        each request. A SOCKS proxy needs the package ``httpx[socks]``.

        Args:
            connect_timeout: Seconds for a connection, TLS included.
            read_timeout: Seconds between two pieces of an answer.
            direct: Never through a proxy, whatever the environment says, and without TLS.
            unix_socket: Path of a unix socket that every request goes to, directly.
        """
        timeout = httpx.Timeout(read_timeout, connect=connect_timeout)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=16)
        if direct or unix_socket is not None:
            transport: httpx.AsyncBaseTransport = httpx.AsyncHTTPTransport(
                uds=unix_socket, limits=limits, verify=False, trust_env=False
            )
        else:
            transport = _ThroughProxies(limits)
        self._client = httpx.AsyncClient(
            timeout=timeout, transport=transport, follow_redirects=False, trust_env=False
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

        A body in pieces is sent as it comes, chunked; a generator is closed in any case. Header values are
        Latin-1.

        Raises:
            TransportError: Nothing, or not all of it, came; or the request could not be built.
        """
        with _Mapped(url):
            encoded = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
            request = self._client.build_request(method, url, headers=encoded, content=body)
            request.stream = pieces = _Pieces(_whole(body) if isinstance(body, bytes) else body)
            try:
                response = await self._client.send(request, stream=True)
            finally:
                await pieces.end()
        chunks = _chunks(response, url)
        try:
            self._client.cookies.clear()
            pairs = [
                (name.decode("latin-1").lower(), value.decode("latin-1"))
                for name, value in response.headers.raw
            ]
            yield StreamedAnswer(response.status_code, pairs, chunks)
        finally:
            try:
                await response.aclose()
            finally:
                await _exhaust(chunks)


class _Pieces(httpx.AsyncByteStream):
    """A body. httpx's own is a generator, which a request that fails leaves unfinished."""

    def __init__(self, body: AsyncIterable[bytes]) -> None:
        self._body = aiter(body)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body

    async def end(self) -> None:
        """Close the body where it is a generator, which may not be at its end."""
        close = getattr(self._body, "aclose", None)
        if close is not None:
            with anyio.CancelScope(shield=True):
                await close()


async def _whole(data: bytes) -> AsyncGenerator[bytes]:
    if data:
        yield data


class _ThroughProxies(httpx.AsyncBaseTransport):
    """Sends each request directly or through the proxy that the environment names for it."""

    def __init__(self, limits: httpx.Limits) -> None:
        self._limits = limits
        self._by_proxy: dict[str | None, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        proxy = _proxy_for(request.url)
        if proxy not in self._by_proxy:
            self._by_proxy[proxy] = self._make(proxy, request.url.scheme)
        return await self._by_proxy[proxy].handle_async_request(request)

    def _make(self, proxy: str | None, scheme: str) -> httpx.AsyncHTTPTransport:
        try:
            trusted = trusted_authorities()
            through = None
            if proxy is not None:
                # Only a proxy that speaks TLS itself takes a context.
                is_tls = proxy.startswith("https:")
                through = httpx.Proxy(proxy, ssl_context=trusted if is_tls else None)
            return httpx.AsyncHTTPTransport(
                verify=trusted, limits=self._limits, trust_env=False, proxy=through
            )
        except ImportError:
            reason = "names a SOCKS proxy, which needs a package: pip install 'httpx[socks]'"
        except (ValueError, httpx.InvalidURL):
            reason = "does not name a usable proxy: begin with http://, https:// or socks5://"
        except OSError as error:
            reason = f"or certificates cannot be used: {error.strerror or type(error).__name__}"
        raise TransportError(f"{_proxy_variable(scheme)} {reason}", permanent=True)

    async def aclose(self) -> None:
        """Close every connection."""
        while self._by_proxy:
            await self._by_proxy.popitem()[1].aclose()


def _proxy_for(url: httpx.URL) -> str | None:
    if not any(name[-6:].lower() == "_proxy" for name in os.environ):  # quicker than ``getproxies`` by far
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or is_exempt(url, proxies.get("no", "")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def is_exempt(url: httpx.URL, names: str) -> bool:
    """Return whether ``NO_PROXY`` names the host, a domain or a network that it belongs to, or all."""
    host = url.host.lower()
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    for name in names.lower().replace(",", " ").split():
        # An IPv6 address stands in brackets there, as it does in a URL.
        bare = name.lstrip("*").lstrip(".").strip("[]")
        if name == "*" or bare in (host, f"{host}:{port}"):
            return True
        if bare and (host.endswith(f".{bare}") or f"{host}:{port}".endswith(f".{bare}")):
            return True
        if "/" in bare and _is_in_network(host, bare):
            return True
    return False


def _is_in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


async def _chunks(response: httpx.Response, url: str) -> AsyncGenerator[bytes]:
    with _Mapped(url):
        async for chunk in response.aiter_raw():
            yield chunk


async def _exhaust(chunks: AsyncGenerator[bytes]) -> None:
    """Let the iterators of a closed answer end: httpx has several, one in the other, and closes none of them.

    Left to the garbage collector, each would be reported by trio.
    """
    with suppress(TransportError):
        async for _ in chunks:
            pass


class _Mapped:
    """Turns what httpx raises into TransportError, without anything that it might quote."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise a TransportError in place of an exception that tells of the transport or the request."""
        if isinstance(exc, httpx.HTTPError | httpx.StreamError | httpx.InvalidURL | ValueError):
            error = _transport_error(exc, _host_of(self._url))
            try:
                raise error
            finally:
                # The exception's request holds the headers, and with them the key.
                error.__context__ = None


def _host_of(url: str) -> str:
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL:
        return "an address that is not a valid URL"


def _transport_error(exc: Exception, host: str) -> TransportError:
    for cause in _causes(exc):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TransportError(
                f"the certificate of {host} is not trusted ({cause.verify_message}); if a private authority "
                "has signed it, name that authority's file in NODE_EXTRA_CA_CERTS or SSL_CERT_FILE",
                permanent=True,
            )
    if isinstance(exc, httpx.InvalidURL | ValueError):
        kind = type(exc).__name__
        return TransportError(f"the request to {host} could not be built ({kind})", permanent=True)
    return TransportError(f"{type(exc).__name__} at {host}", was_sent=isinstance(exc, httpx.ReadTimeout))


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        exc = exc.__cause__ or exc.__context__


def _proxy_variable(scheme: str) -> str:
    for name in (f"{scheme.upper()}_PROXY", "ALL_PROXY"):
        if os.environ.get(name) or os.environ.get(name.lower()):
            return name
    return "a setting of this machine"
