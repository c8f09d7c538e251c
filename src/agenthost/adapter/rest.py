"""A vendor's REST API: JSON over HTTP, for adapters without a client of the vendor's."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from agenthost.wire.json_bounds import JsonBoundsError, load_json

if TYPE_CHECKING:
    from agenthost.http import HttpClient, StreamedAnswer

_log = logging.getLogger("agenthost.adapter")

_MOST_TEXT = 300  # characters of an answer that is not the API's own
_MOST_BYTES = 32 * 1024 * 1024  # of an answer, or of a line of one
_FIRST_REFUSED = 300  # status; a redirect is not followed, as it would take the token along

Authorization = tuple[Mapping[str, str], Mapping[str, object]]


class RestError(Exception):
    """A refusal by the vendor. The message does not hold the header ``authorization``.

    Attributes:
        status_code: HTTP status.
        code: The vendor's name of the error; empty where the answer has none.
        retry_after: Seconds after which the vendor wants the call again; None where it states none.
        details: The error as the vendor describes it.
    """

    def __init__(
        self,
        status_code: int,
        code: str,
        message: str,
        *,
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{status_code} {code}: {message}" if code else f"{status_code}: {message}")
        self.status_code, self.code = status_code, code
        self.retry_after, self.details = retry_after, details or {}


class RestClient:
    """Calls of one API. Connects with the first call; ``aclose`` closes the connections.

    Args:
        base_url: What every path is put behind.
        authorize: Returns the headers and the parameters that every call has. Called for each call, so that
            a token may be another one each time.
        request_id: The header by which the vendor names a call in its answer, in lower case: it is logged,
            and stands in errors. Empty where there is none.
    """

    def __init__(
        self, base_url: str, authorize: Callable[[], Authorization], *, request_id: str = ""
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._authorize = authorize
        self._request_id = request_id
        self._client: HttpClient | None = None

    async def aclose(self) -> None:
        """Close the connections. Idempotent; another call connects anew."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Return the answer to a call: JSON as values, an empty mapping where there is no body.

        Args:
            method: Of HTTP.
            path: Behind the base URL.
            query: Parameters; one that is None is left out.
            body: JSON as values, or bytes whose kind ``headers`` states.
            headers: Further headers.

        Raises:
            RestError: The vendor refused, or its answer is not JSON, or holds too much.
            TransportError: There was no answer, or not all of one.
        """
        async with self.stream(method, path, query=query, body=body, headers=headers) as answer:
            data = await _whole(answer)
        try:
            return load_json(data or b"{}")
        except JsonBoundsError as error:
            raise RestError(answer.status, "", f"the answer: {error}") from None
        except ValueError:
            text = data[:_MOST_TEXT].decode(errors="replace")
            raise RestError(answer.status, "", f"the answer is not JSON: {text}") from None

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
        granted, parameters = self._authorize()
        given = {name: value for name, value in {**parameters, **(query or {})}.items() if value is not None}
        url = self._base_url + path + (f"?{urlencode(given)}" if given else "")
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {**granted, "content-type": "application/json", **(headers or {})}
        async with self._client.stream(method, url, list(sent.items()), data) as answer:
            known = dict(answer.headers)
            name = f"{self._request_id} {known[self._request_id]}" if self._request_id in known else ""
            _log.debug("%s %s: %d %s", method, path, answer.status, name)
            if answer.status >= _FIRST_REFUSED:
                text = (await _whole(answer)).decode(errors="replace")
                token = granted.get("authorization", "").rpartition(" ")[2]
                text = text.replace(token, "***") if token else text
                raise _error_of(answer.status, text, known.get("retry-after", ""), name)
            yield answer


async def _whole(answer: StreamedAnswer) -> bytes:
    """Return a body, which programs in a sandbox may have a part in. Raises RestError for a long one."""
    parts: list[bytes] = []
    size = 0
    async for chunk in answer.chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > _MOST_BYTES:
            raise RestError(answer.status, "", f"the answer is longer than {_MOST_BYTES} bytes")
    return b"".join(parts)


async def json_lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[Any]:
    """Yield the values of an answer that is one JSON value in each line.

    Raises:
        ConnectionResetError: The answer ended in the middle of a line, or a line is not JSON, or too long.
    """
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _MOST_BYTES:
            raise ConnectionResetError(f"a line of the answer is longer than {_MOST_BYTES} bytes")
        for line in lines:
            if line.strip():
                try:
                    yield load_json(line)
                except ValueError:
                    raise ConnectionResetError("a line of the answer is not JSON") from None
    if rest.strip():
        raise ConnectionResetError("the answer ended in the middle of a line")


def _error_of(status: int, text: str, again: str, name: str) -> RestError:
    """Return the error of an answer: JSON with ``code`` and ``message``, below ``error`` or not; or text."""
    details: Mapping[str, Any] = {}
    try:
        parsed: Any = json.loads(text)
        details = parsed.get("error") or parsed
        code, message = str(details.get("code", "")), str(details["message"])
    except (ValueError, AttributeError, LookupError, TypeError):  # a page of a proxy, for instance
        details = {}
        code, message = "", text.strip()[:_MOST_TEXT] or "no reason was given"
    message += f", {name}" if name else ""
    seconds = float(again) if again.isdecimal() else None
    return RestError(status, code, message, retry_after=seconds, details=details)
