"""Connections on which nothing is proven yet: how many there may be, and for how long.

Whoever reaches the guest can connect to it, and each connection takes a file descriptor. Without a bound, a
flood from a program without a key leaves the guest no descriptor for its hosts and agents.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

MOST = 128  # connections without a proof; a host needs 2, an agent one for each model request
HEAD_SECONDS = 10.0  # in which a request's head has to arrive
IDLE_SECONDS = 75.0  # that a connection may be silent between two requests
_YOUNG = 0.5  # seconds in which a connection is not closed for another where ``spares_young``


class Leaving(Protocol):
    """A connection that can be closed."""

    def abort(self) -> None:
        """Close it at once."""
        ...


C = TypeVar("C", bound=Leaving)


class Lobby(Generic[C]):
    """The connections of one listener on which nothing is proven. The oldest makes room for a new one.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._waiting: dict[C, float] = {}  # when each came, the oldest first

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, connection: C, now: float) -> None:
        """Take a connection in, and close the oldest where there are too many."""
        self._waiting[connection] = now
        if len(self._waiting) > self._most:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.abort()

    def leave(self, connection: C) -> None:
        """Let a connection go: it has proved itself, or has ended. Idempotent."""
        self._waiting.pop(connection, None)

    def opens_in(self, now: float) -> float:
        """Return in how many seconds there is room again; 0 where there is, or the oldest has had its time.

        For a proof that takes a round trip: a flood that is taken in at once would close each host before
        its answer comes. Meanwhile others wait in the kernel's queue.
        """
        if len(self._waiting) < self._most:
            return 0.0
        return max(0.0, next(iter(self._waiting.values())) + _YOUNG - now)
