"""Bytes that several may hold together: who asks for more than is left waits its turn."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel


class ByteBudget:
    """A number of bytes, given out in the order of asking: a large share is not overtaken for ever."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._queue: deque[tuple[int, anyio.Event]] = deque()

    async def take(self, amount: int) -> None:
        """Wait for that many bytes. Cancelled, it takes none. More than the whole never comes."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        turn = (amount, anyio.Event())
        self._queue.append(turn)
        self._serve()
        try:
            await turn[1].wait()
        except BaseException:
            if turn[1].is_set():
                self.give(amount)
            else:
                self._queue.remove(turn)
                self._serve()
            raise

    def give(self, amount: int) -> None:
        """Give bytes back."""
        self._free += amount
        self._serve()

    def _serve(self) -> None:
        while self._queue and self._queue[0][0] <= self._free:
            amount, event = self._queue.popleft()
            self._free -= amount
            event.set()


class Share:
    """What one holds of a budget; given back when the block is left."""

    def __init__(self, budget: ByteBudget) -> None:
        self.held = 0
        self._budget = budget

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shrink(0)

    async def take(self, amount: int) -> None:
        """Take the share, once: two who held some and wanted more could wait for each other."""
        assert not self.held
        await self._budget.take(amount)
        self.held = amount

    def shrink(self, amount: int) -> None:
        """Give back all above ``amount``."""
        if amount < self.held:
            given, self.held = self.held - amount, amount
            self._budget.give(given)
