"""What the CLI prints to stderr: a journal event for each line, and a tail for errors."""

from __future__ import annotations

from collections import deque

TAIL_BYTES = 64 * 1024


class StderrTail:
    """Keeps the last lines, up to ``TAIL_BYTES`` of them in UTF-8."""

    def __init__(self, limit: int = TAIL_BYTES) -> None:
        self._limit = limit
        self._lines: deque[bytes] = deque()
        self._size = 0
        self.count = 0

    def add(self, line: str) -> None:
        """Add one line. Of a line longer than the limit the end is kept."""
        data = line.encode("utf-8", "replace")[-self._limit :]
        self._lines.append(data)
        self._size += len(data) + 1
        self.count += 1
        while self._size > self._limit + 1:
            self._size -= len(self._lines.popleft()) + 1

    def text(self) -> str:
        """Return the lines, joined by newlines."""
        return b"\n".join(self._lines).decode("utf-8", "replace")
