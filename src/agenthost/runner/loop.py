"""The event loop of the runner."""

from __future__ import annotations

import asyncio
import selectors

# The SDK hands over each message in a turn of the loop of its own, and a turn asks the kernel for news
# even when there is work to do: for a flood of partial messages that was a third of the runner's time.
_TURNS_WITHOUT_NEWS = 16


class SparingSelector(selectors.DefaultSelector):
    """Asks the kernel only every so often while the loop has work to do, and always when it has none."""

    _skipped = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; nothing, without asking, in most turns that would not wait anyway."""
        if timeout is not None and timeout <= 0 and self._skipped < _TURNS_WITHOUT_NEWS:
            self._skipped += 1
            return []
        self._skipped = 0
        return super().select(timeout)


def new_loop() -> asyncio.AbstractEventLoop:
    """Make the loop and set it."""
    loop = asyncio.SelectorEventLoop(SparingSelector())
    asyncio.set_event_loop(loop)
    return loop
