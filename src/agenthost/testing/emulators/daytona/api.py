"""Daytona's two APIs as routes: how a call is read, answered and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from agenthost.testing.emulators.base.rest import reply
from agenthost.testing.loopback import Exchange

API, DAEMON = "DAYTONA_API", "DAYTONA_DAEMON"


class Refusal(Exception):
    """What a call is refused with: an HTTP status, a message, Daytona's name of it, and headers."""

    def __init__(
        self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Attributes:
        parts: The variable parts of its path.
        query: Its parameters.
        body: Its body as values; empty where it is not JSON.
        exchange: The request, and where the answer goes.
    """

    parts: list[str]
    query: Mapping[str, str]
    body: Mapping[str, Any]
    exchange: Exchange

    def text(self, name: str) -> str:
        """Return a text of the body. Raises Refusal."""
        found = self.body.get(name)
        if not isinstance(found, str) or not found:
            raise Refusal(400, f"{name} should not be empty, {name} must be a string", "BAD_REQUEST")
        return found

    def integer(self, name: str, default: int) -> int:
        """Return a number of the body. Raises Refusal."""
        found = self.body.get(name, default)
        found = default if found is None else found
        if type(found) is not int:
            raise Refusal(400, f"{name} must be an integer number", "BAD_REQUEST")
        return found

    def number(self, index: int) -> int:
        """Return a number of the path. Raises Refusal."""
        if not self.parts[index].isdecimal():
            raise Refusal(400, "Validation failed (numeric string is expected)", "BAD_REQUEST")
        return int(self.parts[index])


# Returns a status and what is answered, or None where the handler has answered by itself.
Handler = Callable[[Call], Awaitable[tuple[int, object] | None]]


class Routes:
    """Answers calls by their routes.

    Args:
        routes: ``GET /api/sandbox/{id}``, and what answers it. The first that fits answers.
        check: Refuses a call without its credential.
        source: Which of Daytona's services answers, for refusals.
    """

    def __init__(self, routes: Mapping[str, Handler], check: Callable[[Exchange], None], source: str) -> None:
        self._check = check
        self._source = source
        self._patterns = [
            (re.compile(re.sub(r"\{\w+\}", "([^/]+)", route) + r"\Z"), handler)
            for route, handler in routes.items()
        ]

    async def answer(self, exchange: Exchange) -> bool:
        """Answer a request; False: no route is its own."""
        url = urlsplit(exchange.request.target)
        line = f"{exchange.request.method} {url.path}"
        for pattern, handler in self._patterns:
            if (found := pattern.match(line)) is not None:
                query = {name: values[-1] for name, values in parse_qs(url.query).items()}
                await self._handle(handler, [unquote(part) for part in found.groups()], query, exchange)
                return True
        return False

    async def _handle(
        self, handler: Handler, parts: list[str], query: Mapping[str, str], exchange: Exchange
    ) -> None:
        try:
            self._check(exchange)
            answer = await handler(Call(parts, query, _parse(exchange), exchange))
        except Refusal as refusal:
            body = {
                "statusCode": refusal.status,
                "message": str(refusal),
                "code": refusal.code,
                "source": self._source,
            }
            await reply(exchange, refusal.status, body, refusal.headers)
            return
        if answer is not None:
            await reply(exchange, *answer)


def _parse(exchange: Exchange) -> Mapping[str, Any]:
    request = exchange.request
    if not request.body or "json" not in request.headers.get("content-type", ""):
        return {}
    try:
        found: Any = json.loads(request.body)
    except ValueError:
        raise Refusal(400, "the body is not JSON", "BAD_REQUEST") from None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
