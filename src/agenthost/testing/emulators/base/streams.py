"""The open streams of an emulator, all of which a test can cut, stall or slow down."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import anyio

from agenthost.testing.loopback import Exchange


class Streams:
    """Every stream of output or input that is open now."""

    def __init__(self) -> None:
        self._open: set[anyio.CancelScope] = set()
        self._flowing = anyio.Event()
        self._flowing.set()
        self._rate: float | None = None

    @contextmanager
    def opened(self) -> Generator[anyio.CancelScope]:
        """Count a stream as open inside the block, which ``cut`` cancels."""
        with anyio.CancelScope() as scope:
            self._open.add(scope)
            try:
                yield scope
            finally:
                self._open.discard(scope)

    async def passing(self, size: int) -> None:
        """Return when so many bytes may pass."""
        await self._flowing.wait()
        if self._rate is not None:
            await anyio.sleep(size / self._rate)

    def cut(self) -> int:
        """Break every stream off in the middle; programs run on. Returns how many there were."""
        scopes = tuple(self._open)
        for scope in scopes:
            scope.cancel()
        return len(scopes)

    def stall(self) -> None:
        """Let no more bytes pass, with every stream open, until ``flow``."""
        self._flowing = anyio.Event()

    def slow(self, bytes_per_second: float) -> None:
        """Let bytes pass at this rate only, until ``flow``."""
        self._rate = bytes_per_second

    def flow(self) -> None:
        """Let what was stalled or slow go on."""
        self._rate = None
        self._flowing.set()


class Passing(Exchange):
    """Passes an answer on as fast as the streams of the emulator do."""

    def __init__(self, inner: Exchange, streams: Streams) -> None:
        super().__init__(inner.request, inner.incoming)
        self._inner = inner  # its server looks whether it was answered
        self._streams = streams

    async def reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Answer with a complete body."""
        await self._streams.passing(len(body))
        await self._inner.reply(status, body, headers)

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head of an answer in chunks."""
        await self._inner.start(status, headers)

    async def write(self, data: bytes) -> None:
        """Send one chunk."""
        await self._streams.passing(len(data))
        await self._inner.write(data)

    async def finish(self) -> None:
        """End an answer in chunks."""
        await self._inner.finish()

    @property
    def answered(self) -> bool:
        """Whether a complete answer was sent."""
        return self._inner.answered

    @property
    def started(self) -> bool:
        """Whether a head was sent."""
        return self._inner.started
