"""The open streams of an emulator, all of which a test can cut, stall or slow down."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import anyio


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
