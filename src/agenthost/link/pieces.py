"""Bytes as they come from a sandbox, in portions of whatever size.

Each portion costs an object, and a view keeps all that it was cut out of: a million frames of one byte took
1.5 GB. Here small portions are joined, and what is small beside its origin is copied.
"""

from __future__ import annotations

from collections import deque

from agenthost.wire.frames import Data

_SMALL = 4 * 1024  # bytes of a portion that is joined to the one before
_JOINED = 256 * 1024  # bytes up to which portions are joined
_SHARE = 4  # a view of less than this part of its origin is copied


class Pieces:
    """A queue of bytes. Takes little more memory than the bytes themselves."""

    def __init__(self) -> None:
        self.size = 0  # bytes in it
        self._parts: deque[Data | bytearray] = deque()

    def __bool__(self) -> bool:
        return bool(self._parts)

    def append(self, data: Data) -> None:
        """Add bytes at the end."""
        if not data:
            return
        self.size += len(data)
        if len(data) < _SMALL:
            last = self._parts[-1] if self._parts else None
            if type(last) is bytearray and len(last) < _JOINED:
                last += data
            else:
                self._parts.append(bytearray(data))
            return
        if type(data) is memoryview and len(data) * _SHARE < len(data.obj):  # type: ignore[arg-type]
            data = bytes(data)
        self._parts.append(data)

    def popleft(self) -> bytes:
        """Take the first bytes out, as many as lie together. IndexError where there are none."""
        data = bytes(self._parts.popleft())
        self.size -= len(data)
        return data

    def clear(self) -> None:
        """Take all out."""
        self._parts.clear()
        self.size = 0

    def joined(self) -> bytes:
        """Return all that is in it; it stays."""
        return b"".join(self._parts)
