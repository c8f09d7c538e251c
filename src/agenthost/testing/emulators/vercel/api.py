"""Vercel's API as routes: how a call is read, answered and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from agenthost.testing.emulators.base.rest import reply
from agenthost.testing.loopback import Exchange

ROOT = "/api"


class Refusal(Exception):
    """What a call is refused with.

    Attributes:
        status: HTTP status.
        code: Vercel's name of it.
        headers: Further headers.
        more: Further fields of the error.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        **more: object,
    ) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.headers, self.more = dict(headers or {}), more


def invalid(message: str) -> Refusal:
    """Return the refusal of a request that Vercel's validation does not pass."""
    return Refusal(400, "bad_request", f"Invalid request: {message}")


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Attributes:
        parts: The variable parts of its path.
        query: Its parameters, all of them.
        body: Its body as values; empty where it is not JSON.
        exchange: The request, and where the answer goes.
    """

    parts: list[str]
    query: Mapping[str, list[str]]
    body: Mapping[str, Any]
    exchange: Exchange

    def parameter(self, name: str, default: str = "") -> str:
        """Return a parameter."""
        return self.query.get(name, [default])[-1]

    def integer(self, name: str, default: int, least: int, most: int | None = None) -> int:
        """Return a number of the body. Raises Refusal."""
        found = self.body.get(name, default)
        if type(found) is not int or found < least:
            raise invalid(f"`{name}` should be >= {least}.")
        if most is not None and found > most:
            raise invalid(f"`{name}` should be <= {most}.")
        return found


# Returns what is answered with 200, or a status with it, or None where it has answered by itself.
Handler = Callable[[Call], Awaitable[Mapping[str, Any] | tuple[int, Mapping[str, Any]] | None]]


class Api:
    """Answers calls by their routes.

    Args:
        routes: ``GET /v2/sandboxes/{name}``, and what answers it. The first that fits answers.
        check: Refuses a call before anything else: its token, its team.
    """

    def __init__(self, routes: Mapping[str, Handler], check: Callable[[Call], None]) -> None:
        self._check = check
        self._patterns = [
            (re.compile(re.sub(r"\{\w+\}", "([^/]+)", route) + r"\Z"), handler)
            for route, handler in routes.items()
        ]

    async def answer(self, exchange: Exchange) -> bool:
        """Answer a request; False: no route is its own."""
        url = urlsplit(exchange.request.target)
        if not url.path.startswith(f"{ROOT}/"):
            return False
        line = f"{exchange.request.method} {url.path.removeprefix(ROOT)}"
        for pattern, handler in self._patterns:
            if (found := pattern.match(line)) is not None:
                parts = [unquote(part) for part in found.groups()]
                await self._handle(handler, parts, parse_qs(url.query), exchange)
                return True
        return False

    async def _handle(
        self, handler: Handler, parts: list[str], query: Mapping[str, list[str]], exchange: Exchange
    ) -> None:
        try:
            call = Call(parts, query, _parse(exchange), exchange)
            self._check(call)
            answer = await handler(call)
        except Refusal as refusal:
            error = {"code": refusal.code, "message": str(refusal), **refusal.more}
            await reply(exchange, refusal.status, {"error": error}, refusal.headers)
            return
        if answer is not None:
            status, body = answer if isinstance(answer, tuple) else (200, answer)
            await reply(exchange, status, body)


def _parse(exchange: Exchange) -> Mapping[str, Any]:
    request = exchange.request
    if not request.body or not request.headers.get("content-type", "").startswith("application/json"):
        return {}
    try:
        found: Any = json.loads(request.body)
    except ValueError:
        raise invalid("the body is not JSON") from None
    if not isinstance(found, dict):
        raise invalid("the body is not an object")
    return cast("dict[str, Any]", found)
