"""An API over HTTP that answers what a test has planned, in turn, and keeps what was asked.

No server: respx takes the place of the network below httpx, and refuses every other address.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import respx

Answer = tuple[int, object, Mapping[str, str]]
USUAL: Answer = (200, {}, {})


@dataclass(frozen=True, slots=True)
class Asked:
    """One request.

    Attributes:
        target: Path and parameters, as they were sent.
        headers: By their names in lower case.
        body: As it was sent.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class PlannedApi:
    """The API of one vendor.

    Attributes:
        url: Where it is.
        requests: What was asked, in order.
        answers: Status, body and headers of each answer to come; where there is none, an empty object.
    """

    url = "https://api.vendor.test"

    def __init__(self) -> None:
        self.requests: list[Asked] = []
        self.answers: list[Answer] = []

    @classmethod
    @contextmanager
    def serving(cls) -> Generator[Self]:
        """Yield one that answers in the block, whose end fails where a planned answer was not asked for."""
        api = cls()
        with respx.mock(base_url=cls.url, assert_all_called=False) as router:
            router.route().mock(side_effect=api._handle)
            yield api
        assert api.answers == []

    def answer(self, status: int, body: object, **headers: str) -> None:
        """Plan an answer: ``body`` as JSON, or bytes. The header ``a-b`` is the keyword ``a_b``."""
        self.answers.append(
            (status, body, {name.replace("_", "-"): value for name, value in headers.items()})
        )

    def asked(self) -> list[str]:
        """Return method and target of each request."""
        return [f"{one.method} {one.target}" for one in self.requests]

    def body(self) -> dict[str, Any]:
        """Return the body of the last request."""
        parsed: dict[str, Any] = json.loads(self.requests[-1].body)
        return parsed

    def choose(self, asked: Asked) -> Answer:
        """Return the answer to a request."""
        del asked
        return self.answers.pop(0) if self.answers else USUAL

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        asked = Asked(
            request.method,
            request.url.raw_path.decode(),
            {name.lower(): value for name, value in request.headers.items()},
            await request.aread(),
        )
        self.requests.append(asked)
        status, body, headers = self.choose(asked)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.Response(status, headers={"content-type": "application/json", **headers}, content=data)
