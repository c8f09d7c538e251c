"""The time of an emulator."""

from __future__ import annotations

import math
import time

import anyio


class Clock:
    """Real time, which a test can move forward. Programs in sandboxes do not see that."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._moved = anyio.Event()

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Move the time forward: sandboxes whose end is passed end now. ValueError: it is negative."""
        if seconds < 0:
            raise ValueError("a clock does not go back")
        self._ahead += seconds
        moved, self._moved = self._moved, anyio.Event()
        moved.set()

    async def sleep_until(self, at: float) -> None:
        """Return when it is that late, in seconds since the epoch."""
        while (left := at - self.now()) > 0:
            moved = self._moved
            with anyio.move_on_after(None if math.isinf(left) else left):
                await moved.wait()

    async def reaches(self, at: float, unless: anyio.Event) -> bool:
        """Return True when it is that late, or False when the event is set before."""
        is_late = False
        async with anyio.create_task_group() as tasks:

            async def give_up() -> None:
                await unless.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(give_up)
            await self.sleep_until(at)
            is_late = True
            tasks.cancel_scope.cancel()
        return is_late
