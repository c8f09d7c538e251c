"""Holds what a client asks and its emulator answers against the published description of an API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from openapi_core import OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest, MockResponse

from agenthost.testing.emulators.base.emulator import HttpEmulator
from agenthost.testing.loopback import Exchange, HttpRequest, LoopbackServer

SPECS = Path(__file__).parents[3] / "shared" / "specs"
Call = tuple[MockRequest, MockResponse]


@dataclass(frozen=True, slots=True)
class Published:
    """The description.

    Attributes:
        asked: What is asked is held against it as it is: the client is newer and may say more.
        answered: What is answered may have no field that it does not name.
        url: Where the description says that its API is.
        unnamed: Answers that it does not name: method, path and status.
    """

    asked: OpenAPI
    answered: OpenAPI
    url: str
    unnamed: Collection[tuple[str, str, int]] = field(default=())

    def violations(self, calls: list[Call]) -> list[str]:
        """Return what is not as the description says."""
        found: list[str] = []
        for request, response in calls:
            try:
                self.asked.validate_request(request)
                if (request.method, request.path, response.status_code) not in self.unnamed:
                    self.answered.validate_response(request, response)
            except OpenAPIError as error:
                what = f"{request.method} {request.path} {response.status_code}"
                found.append(f"{what}: {error!r}: {error.__cause__!r}: {response.data[:300]!r}")
        return found


def published(
    name: str,
    url: str,
    *,
    newer: Mapping[tuple[str, str], str] | None = None,
    unnamed: Collection[tuple[str, str, int]] = (),
) -> Published:
    """Return a description; skips the test where there is none.

    Args:
        name: Its file, below the directory of descriptions.
        url: Where it says that its API is.
        newer: Calls (method and path) that it lacks, with the path that has the same meaning there.
        unnamed: Answers that it does not name: method, path and status.
    """
    path = SPECS / name
    if not path.is_file():
        pytest.skip("not in CI: the published description is not part of this project")
    told: dict[str, Any] = yaml.safe_load(path.read_text())
    for (method, asked), known in (newer or {}).items():
        told["paths"].setdefault(asked, {})[method] = told["paths"][known][method]
    strict = deepcopy(told)
    for schema in strict["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return Published(OpenAPI.from_dict(told), OpenAPI.from_dict(strict), url, unnamed)


class _Recorded(Exchange):
    """Passes an answer on and keeps it."""

    def __init__(self, inner: Exchange, url: str, calls: list[Call]) -> None:
        super().__init__(inner.request, inner.incoming)
        self._inner = inner  # its server looks whether it was answered
        self._url = url
        self._calls = calls

    async def reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Keep it."""
        asked = self.request
        url = urlsplit(asked.target)
        request = MockRequest(
            self._url,
            asked.method.lower(),
            url.path,
            args=dict(parse_qsl(url.query)),
            headers=dict(asked.headers),
            data=asked.body or None,
            content_type=asked.headers.get("content-type", "application/json"),
        )
        self._calls.append((request, MockResponse(body, status, dict(headers or {}))))
        await self._inner.reply(status, body, headers)


@asynccontextmanager
async def recorded(
    emulator: HttpEmulator[Any],
    url: str,
    *,
    options: Collection[str],
    in_pieces: Callable[[HttpRequest], bool] | None = None,
) -> AsyncGenerator[tuple[dict[str, Any], list[Call]]]:
    """Yield the options of a way to an emulator that keeps each call to its control plane, and the calls.

    Args:
        emulator: The emulator.
        url: Where the description says that its API is.
        options: Which of its options are its address.
        in_pieces: See LoopbackServer.
    """
    calls: list[Call] = []

    async def handle(exchange: Exchange) -> None:
        is_control = emulator.is_control(exchange)
        await emulator.handle(_Recorded(exchange, url, calls) if is_control else exchange)

    async with LoopbackServer(handle, in_pieces=in_pieces) as server:
        yield {**emulator.options, **dict.fromkeys(options, server.url)}, calls


def paths(calls: list[Call]) -> set[str]:
    """Return what was asked for, without ids."""
    return {f"{request.method} {'/'.join(request.path.split('/')[:3])}" for request, _ in calls}
