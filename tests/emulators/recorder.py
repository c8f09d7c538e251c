"""Records the requests that reach an emulator: their exact shape."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from agenthost.testing.emulators.base.emulator import HttpEmulator
from agenthost.testing.loopback import Exchange, LoopbackServer


@dataclass(slots=True)
class Recorded:
    """One request, and the answer to it.

    Attributes:
        target: Path and parameters as they were sent.
        body: As it was sent.
        status: HTTP status of the answer; 0 is none.
        answer: The answer, where it was sent as a whole.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    status: int = 0
    answer: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> str:
        """The path."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The parameters."""
        return dict(parse_qsl(urlsplit(self.target).query))

    @property
    def values(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class _Watched(Exchange):
    def __init__(self, inner: Exchange, recorded: Recorded) -> None:
        super().__init__(inner.request, inner.incoming)
        self._inner = inner  # its server looks whether it was answered
        self._recorded = recorded

    async def reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self._recorded.status, self._recorded.answer = status, body
        await self._inner.reply(status, body, headers)

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        self._recorded.status = status
        await self._inner.start(status, headers)

    async def finish(self) -> None:
        await self._inner.finish()

    @property
    def started(self) -> bool:
        return self._inner.started


@contextmanager
def watched(emulator: HttpEmulator[Any]) -> Generator[list[Recorded]]:
    """Yield the requests that come to an emulator while the block is open, whichever address it has."""
    requests: list[Recorded] = []
    real = emulator.handle

    async def handle(exchange: Exchange) -> None:
        await real(_watch(exchange, requests))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emulator, "handle", handle)
        yield requests


@asynccontextmanager
async def recorder(emulator: HttpEmulator[Any]) -> AsyncGenerator[tuple[str, list[Recorded]]]:
    """Yield another address of an emulator, and the requests that come there."""
    requests: list[Recorded] = []

    async def handle(exchange: Exchange) -> None:
        await emulator.handle(_watch(exchange, requests))

    async with LoopbackServer(handle) as server:
        yield server.url, requests


def _watch(exchange: Exchange, requests: list[Recorded]) -> Exchange:
    asked = exchange.request
    recorded = Recorded(asked.method, asked.target, asked.headers, asked.body)
    requests.append(recorded)
    return _Watched(exchange, recorded)
