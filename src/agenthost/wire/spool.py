"""Where a sender keeps its bytes until they are acknowledged."""

from __future__ import annotations

from collections import deque
from typing import Protocol

_SMALL = 4 * 1024
_PIECE = 256 * 1024


class Spool(Protocol):
    """Bytes from ``base`` to ``end``, both offsets from the stream's beginning."""

    @property
    def base(self) -> int:
        """Offset of the oldest byte kept."""
        ...

    @property
    def end(self) -> int:
        """Offset behind the newest byte."""
        ...

    def append(self, data: bytes) -> None:
        """Add bytes at the end. OSError when there is no room for them; then nothing was added."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Return 1 to ``size`` bytes from ``offset``, which is in ``base <= offset < end``."""
        ...

    def trim(self, offset: int) -> None:
        """Let go of what lies below ``offset``. May keep more than it must."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class MemorySpool:
    """A spool in memory, as a queue of pieces: small writes are joined, large ones are cut."""

    def __init__(self, base: int = 0) -> None:
        self.base = base
        self.end = base
        self._pieces: deque[bytes] = deque()
        # Readers nearly always go on where they stopped: remember that piece instead of searching for it.
        self._at_index = 0
        self._at_offset = base

    def append(self, data: bytes) -> None:
        """Add bytes at the end. Large ones in pieces: trimming copies what is left of one."""
        pieces = self._pieces
        if pieces and len(pieces[-1]) + len(data) <= _SMALL:
            # A piece costs more than the few bytes in it: a million writes of one byte must not be as many.
            pieces[-1] += data
        elif len(data) <= _PIECE:
            if data:
                pieces.append(data)
        else:
            pieces.extend(data[start : start + _PIECE] for start in range(0, len(data), _PIECE))
        self.end += len(data)

    def read(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes, joining small pieces."""
        if not self.base <= offset < self.end:
            raise ValueError(f"offset {offset} is outside {self.base}..{self.end}")
        if offset < self._at_offset:
            self._at_index, self._at_offset = 0, self.base
        pieces = self._pieces
        while self._at_offset + len(pieces[self._at_index]) <= offset:
            self._at_offset += len(pieces[self._at_index])
            self._at_index += 1
        skip = offset - self._at_offset
        first = pieces[self._at_index]
        if len(first) - skip >= size or self._at_index + 1 == len(pieces):
            return first[skip : skip + size]
        parts, got, index = [first[skip:]], len(first) - skip, self._at_index + 1
        while got < size and index < len(pieces):
            part = pieces[index][: size - got]
            parts.append(part)
            got += len(part)
            index += 1
        return b"".join(parts)

    def trim(self, offset: int) -> None:
        """Drop whole pieces below ``offset``, and cut the one it falls into when that frees half of it."""
        offset = min(offset, self.end)
        while self._pieces and self.base + len(self._pieces[0]) <= offset:
            self.base += len(self._pieces.popleft())
            self._at_index -= 1
        if self._pieces and 2 * (offset - self.base) >= len(self._pieces[0]):
            self._pieces[0] = self._pieces[0][offset - self.base :]
            self.base = offset
        if self._at_index <= 0:
            self._at_index, self._at_offset = 0, self.base

    def close(self) -> None:
        """Drop everything."""
        self._pieces.clear()
        self.base = self._at_offset = self.end
        self._at_index = 0
