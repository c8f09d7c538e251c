"""Requests to a container engine: Docker's API, which podman serves too."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

import anyio

from agenthost.errors import UnsupportedError
from agenthost.providers.docker.address import Address
from agenthost.providers.docker.errors import EngineError
from agenthost.providers.docker.upgraded import UpgradedStream, open_upgraded

if TYPE_CHECKING:
    from agenthost.http import HttpClient, StreamedAnswer

_OLDEST = (1, 41)  # of the API: Docker 20.10, podman 4
_PATIENCE = 120.0  # seconds that one request may take; those with long answers have no such bound

Query = Mapping[str, object]


class Engine:
    """One engine. Connects when it is asked for something; ``aclose`` lets go of the connections."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._client: HttpClient | None = None
        self._facts: dict[str, Any] | None = None
        self._version: dict[str, Any] = {}

    async def aclose(self) -> None:
        """Close the connections. Idempotent; another request connects anew."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def facts(self) -> Mapping[str, Any]:
        """Return what the engine says of itself (``/info``), asked once.

        Raises:
            EngineError: It does not answer.
            UnsupportedError: It is too old.
        """
        facts = self._facts
        if facts is None:
            version = self._version = await self.ask("GET", "/version")
            api = tuple(int(part) for part in str(version["ApiVersion"]).split(".")[:2])
            if api < _OLDEST:
                raise UnsupportedError(
                    f"the container engine at {self.address} speaks API {version['ApiVersion']}; "
                    "1.41 is needed (Docker 20.10 or podman 4, or newer)"
                )
            facts = self._facts = dict(await self.ask("GET", "/info"))
        return facts

    async def is_podman(self) -> bool:
        """Whether it is podman, which serves Docker's API a little otherwise."""
        await self.facts()
        components: list[dict[str, Any]] = self._version.get("Components") or []
        return any("podman" in str(one.get("Name")).lower() for one in components)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        within: float | None = _PATIENCE,
    ) -> Any:
        """Send a request and return its answer: JSON as values, anything else as bytes.

        Args:
            method: Of HTTP.
            path: Without a version: the engine then speaks its newest.
            query: Parameters; mappings travel as JSON, lists item by item.
            body: JSON as values, or bytes, or bytes in pieces: an archive.
            within: Seconds until all of the answer is there.

        Raises:
            EngineError: It refused, with its status, or does not answer.
        """
        try:
            with anyio.fail_after(within):
                async with self.stream(method, path, query=query, body=body) as answer:
                    data = b"".join([chunk async for chunk in answer.chunks])
        except TimeoutError as exc:
            raise EngineError(
                f"the container engine at {self.address} did not answer {method} {path} within {within:g} s",
                0,
            ) from exc
        kind = dict(answer.headers).get("content-type", "")
        return json.loads(data) if data and kind.startswith("application/json") else data

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, query: Query | None = None, body: object = None
    ) -> AsyncGenerator[StreamedAnswer]:
        """Send a request and yield the answer while it comes. See ``ask``."""
        # Importing httpx takes a few hundred milliseconds.
        from agenthost.http import TransportError

        headers: list[tuple[str, str]] = []
        content: bytes | AsyncIterable[bytes] = b""
        if isinstance(body, bytes | bytearray) or hasattr(body, "__aiter__"):
            headers.append(("Content-Type", "application/x-tar"))
            content = cast("bytes | AsyncIterable[bytes]", body)
        elif body is not None:
            headers.append(("Content-Type", "application/json"))
            content = json.dumps(body).encode()
        url = self.address.url + path + _encoded(query)
        try:
            async with self._connected().stream(method, url, headers, content) as answer:
                if answer.status >= 400:
                    said = b"".join([chunk async for chunk in answer.chunks])
                    raise EngineError(_message(said), answer.status)
                yield answer
        except TransportError as exc:
            raise EngineError(
                f"no container engine answers at {self.address} ({exc}): "
                "start it, or name another by DOCKER_HOST",
                0,
            ) from exc

    async def upgrade(self, path: str, body: object, *, query: Query | None = None) -> UpgradedStream:
        """Open a program's streams. OSError when the engine does not answer. See ``ask``."""
        return await open_upgraded(self.address, path + _encoded(query), body)

    def _connected(self) -> HttpClient:
        if self._client is None:
            from agenthost.http import HttpClient

            self._client = HttpClient(direct=True, unix_socket=self.address.path)
        return self._client


def _encoded(query: Query | None) -> str:
    pairs: list[tuple[str, str]] = []
    for name, value in (query or {}).items():
        if isinstance(value, bool):
            pairs.append((name, "1" if value else "0"))
        elif isinstance(value, str | int | float):
            pairs.append((name, str(value)))
        elif isinstance(value, Mapping):
            pairs.append((name, json.dumps(value)))
        elif isinstance(value, Sequence):
            pairs += [(name, str(one)) for one in cast("Sequence[object]", value)]
    return "?" + urlencode(pairs) if pairs else ""


def _message(said: bytes) -> str:
    try:
        return str(json.loads(said)["message"])
    except (ValueError, KeyError, TypeError):
        return said.decode(errors="replace").strip()[:1000]
