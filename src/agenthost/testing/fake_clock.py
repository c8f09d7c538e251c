"""Time that passes only when a test says so."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

import anyio
import anyio.lowlevel

_TURNS = 50  # of the event loop, for what was woken to go as far as it can before time goes on


class FakeClock:
    """Virtual time, in seconds since the epoch. It begins now and stands still until ``advance``."""

    def __init__(self, start: float | None = None) -> None:
        self._now = time.time() if start is None else start
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, Callable[[], object]]] = []
        self._called_off: set[int] = set()

    def time(self) -> float:
        """Return the time."""
        return self._now

    def call_at(self, when: float, function: Callable[[], object]) -> Callable[[], None]:
        """Have a function called when the time has come, and return what calls it off."""
        number = next(self._order)
        heapq.heappush(self._waiting, (when, number, function))
        return lambda: self._called_off.add(number)

    async def sleep(self, seconds: float) -> None:
        """Return when so many virtual seconds have passed."""
        event = anyio.Event()
        call_off = self.call_at(self._now + seconds, event.set)
        if seconds <= 0:
            event.set()
            await anyio.lowlevel.checkpoint()
        try:
            await event.wait()
        finally:
            call_off()

    async def advance(self, seconds: float) -> None:
        """Let time pass. What is due happens in its order, and other tasks run between.

        What a task does when it was woken is over, as a rule, when this returns; who needs to be sure waits
        for that task.
        """
        until = self._now + seconds
        await self._let_others_run()
        while self._waiting and self._waiting[0][0] <= until:
            when, number, function = heapq.heappop(self._waiting)
            if number in self._called_off:
                self._called_off.discard(number)
                continue
            self._now = max(self._now, when)
            function()
            await self._let_others_run()
        self._now = until

    async def _let_others_run(self) -> None:
        for _ in range(_TURNS):
            await anyio.lowlevel.checkpoint()
