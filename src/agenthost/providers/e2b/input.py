"""What waits to be sent to a program."""

from __future__ import annotations

import asyncio  # noqa: TID251 - the vendor's handle of a program's input takes its queue, which is asyncio's
from typing import Any


class GatheringQueue(asyncio.Queue[Any]):
    """A queue that gives out all bytes that wait as one piece, and is full when so many wait.

    The vendor's own has no bound, and makes a message of each piece, however small.

    Args:
        most: Bytes that wait; one more piece may be above it.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._others: list[Any] = []  # the vendor's own signs, which come behind all bytes
        self._waiting = bytearray()

    def full(self) -> bool:
        """Return whether ``put`` has to wait."""
        return len(self._waiting) >= self._most

    def empty(self) -> bool:
        """Return whether ``get`` has to wait."""
        return self.qsize() == 0

    def qsize(self) -> int:
        """Return how many pieces would come out."""
        return bool(self._waiting) + len(self._others)

    def _put(self, item: Any) -> None:
        if isinstance(item, bytes | bytearray):
            self._waiting += item
        else:
            self._others.append(item)

    def _get(self) -> Any:
        if not self._waiting:
            return self._others.pop(0)
        data, self._waiting = bytes(self._waiting), bytearray()
        return data
