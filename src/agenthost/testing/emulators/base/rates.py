"""How often something may be asked for."""

from __future__ import annotations

import math

import anyio


class Rate:
    """So many at once, and then so many a second.

    Args:
        at_once: How many at once; with 0 the first one has to wait, too.
        each_second: How many more may come with each second.
    """

    def __init__(self, at_once: int, each_second: float) -> None:
        self._most = max(1, at_once)
        self._each_second = each_second
        self._free = float(at_once)
        self._seen = anyio.current_time()

    def take(self) -> int | None:
        """Take one. Returns whole seconds after which to come again, where there is none."""
        now = anyio.current_time()
        self._free = min(self._most, self._free + (now - self._seen) * self._each_second)
        self._seen = now
        if self._free < 1:
            return math.ceil((1 - self._free) / self._each_second)
        self._free -= 1
        return None
