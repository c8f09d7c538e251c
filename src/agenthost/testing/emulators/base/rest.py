"""An API of JSON over HTTP: routes, what is asked of them, and how they refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from agenthost.testing.loopback import Exchange, HttpRequest


class Refusal(Exception):
    """What a call is refused with: an HTTP status, a message, and headers."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a call; ``body`` None is no body."""

    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Asked:
    """One call: the variable parts of its path, its query and body as one, and its headers.

    What has the wrong type is a Refusal with status 400.
    """

    parts: list[str]
    fields: Mapping[str, Any]
    headers: Mapping[str, str]

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text that is not empty."""
        found = self.fields.get(name, default)
        if not isinstance(found, str) or not found:
            raise Refusal(400, f"'{name}' is required and must be a string")
        return found

    def texts(self, name: str, default: list[str] | None = None) -> list[str]:
        """Return a list of texts."""
        found = self.fields.get(name, default)
        texts = cast("list[object]", found) if isinstance(found, list) else [None]
        if not all(isinstance(one, str) for one in texts):
            raise Refusal(400, f"'{name}' must be a list of strings")
        return cast("list[str]", texts)

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object; one that is missing is empty."""
        found = self.fields.get(name)
        if found is not None and not isinstance(found, dict):
            raise Refusal(400, f"'{name}' must be an object")
        return cast("dict[str, Any]", found or {})

    def text_mapping(self, name: str) -> dict[str, str]:
        """Return an object whose values are texts."""
        found = self.mapping(name)
        if not all(isinstance(value, str) for value in found.values()):
            raise Refusal(400, f"the values of '{name}' must be strings")
        return found

    def integer(self, name: str, default: int | None = None) -> int:
        """Return a number of the body."""
        found = self.fields.get(name, default)
        if type(found) is not int:  # null and true are not numbers
            raise Refusal(400, f"'{name}' must be an integer")
        return found

    def count(self, name: str, default: int) -> int:
        """Return a number of the query."""
        found = str(self.fields.get(name, default))
        if not (found.isascii() and found.isdigit()):
            raise Refusal(400, f"Invalid format for parameter {name}")
        return int(found)


Handler = Callable[[Asked], Awaitable[Answer]]


class RestApi:
    """Answers calls by their routes.

    Args:
        routes: ``POST /sandboxes/{id}/pause``, and what answers it.
        check: Refuses a request before anything else, for want of a credential for instance.
    """

    def __init__(self, routes: Mapping[str, Handler], check: Callable[[HttpRequest], None]) -> None:
        self.routes = dict(routes)
        self._check = check
        self._patterns = [
            (re.compile(re.sub(r"\{\w+\}", "([^/]+)", route) + r"\Z"), handler)
            for route, handler in routes.items()
        ]

    def refusal_body(self, status: int, message: str) -> object:
        """Return the body of a refusal, as this provider words it."""
        return {"code": status, "message": message}

    async def answer(self, exchange: Exchange) -> bool:
        """Answer a request; False: no route is its own."""
        request = exchange.request
        url = urlsplit(request.target)
        for pattern, handler in self._patterns:
            found = pattern.match(f"{request.method} {url.path}")
            if found is None:
                continue
            try:
                self._check(request)
                query = {name: values[-1] for name, values in parse_qs(url.query).items()}
                fields = {**query, **_parse(request.body)}
                parts = [unquote(part) for part in found.groups()]
                answer = await handler(Asked(parts, fields, request.headers))
            except Refusal as refusal:
                body = self.refusal_body(refusal.status, str(refusal))
                answer = Answer(refusal.status, body, refusal.headers)
            await reply(exchange, answer.status, answer.body, answer.headers)
            return True
        return False


async def reply(
    exchange: Exchange, status: int, body: object = None, headers: Mapping[str, str] | None = None
) -> None:
    """Answer with JSON, or with no body."""
    data = b"" if body is None else json.dumps(body).encode()
    await exchange.reply(status, data, {"content-type": "application/json", **(headers or {})})


def _parse(body: bytes) -> dict[str, Any]:
    try:
        found: object = json.loads(body) if body else {}
    except ValueError as error:
        raise Refusal(400, f"Error parsing request: {error}") from error
    if not isinstance(found, dict):
        raise Refusal(400, "Error parsing request: the body is not an object")
    return cast("dict[str, Any]", found)
