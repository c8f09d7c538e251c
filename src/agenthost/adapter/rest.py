"""A vendor's REST API: JSON over HTTP, for an adapter without a client of the vendor."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from agenthost.http import HttpClient, StreamedAnswer

_log = logging.getLogger("agenthost.adapter")


class RestClient:
    """The calls of one account. It connects with the first call; ``aclose`` closes the connections.

    Args:
        base_url: What every path is appended to.
        headers: Returns the headers of a call: the credential, which may change.
        refusal: Returns the exception for an answer with a status of 300 or above, from its status, its
            headers in lower case, and its body.
        request_id: The header by which the vendor names a call in its answer, for the log.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Callable[[], Mapping[str, str]],
        refusal: Callable[[int, Mapping[str, str], bytes], Exception],
        request_id: str = "x-request-id",
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._headers = headers
        self._refusal = refusal
        self._request_id = request_id
        self._client: HttpClient | None = None

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Return the answer to a call: JSON as values, None where the answer is empty.

        Args:
            method: Of HTTP.
            path: Quoted.
            query: Parameters; one that is None is left out.
            body: JSON as values, or bytes with ``headers`` that describe them.
            headers: Further headers.

        Raises:
            TransportError: No answer, or not all of one. Other exceptions are those of ``refusal``.
        """
        async with self.stream(method, path, query=query, body=body, headers=headers) as answer:
            data = b"".join([chunk async for chunk in answer.chunks])
        return json.loads(data) if data else None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[StreamedAnswer]:
        """Yield the answer to a call while it comes. See ``ask``."""
        if self._client is None:
            from agenthost.http import HttpClient  # takes a few hundred milliseconds

            self._client = HttpClient()
        asked = urlencode({name: value for name, value in (query or {}).items() if value is not None})
        url = f"{self._base_url}{path}" + (f"?{asked}" if asked else "")
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            **self._headers(),
            **(headers or {}),
        }
        async with self._client.stream(method, url, list(sent.items()), data) as answer:
            known = dict(answer.headers)
            _log.debug("%s %s: %d, request %s", method, path, answer.status, known.get(self._request_id))
            if answer.status >= 300:
                refused = b"".join([chunk async for chunk in answer.chunks])
                raise self._refusal(answer.status, known, refused)
            yield answer

    async def aclose(self) -> None:
        """Close the connections. Idempotent; another call connects anew."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
