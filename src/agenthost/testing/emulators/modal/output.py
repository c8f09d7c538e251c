"""What a program prints, kept by offset: a reader may come back and go on where it was."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import anyio

UNREAD = 1024 * 1024  # bytes that a program may be ahead of who reads it
_MOST = 256 * 1024  # bytes in one message


class Output:
    """One stream of one program.

    Args:
        most: Bytes that are kept for who has not read them yet; then the program waits. None holds nobody up.
        drop: Whether nobody wants it.

    Attributes:
        full: Set when the program has to wait for a reader.
    """

    def __init__(self, *, most: int | None = UNREAD, drop: bool = False) -> None:
        self.full = anyio.Event()
        self._most = most
        self._drop = drop
        self._read = 0
        self._data = bytearray()
        self._ended = False
        self._news = anyio.Event()

    async def collect(self, receive: Callable[[], Awaitable[bytes]]) -> None:
        """Take what a program prints, as far as it is read or forgotten."""
        while data := await receive():
            if self._drop:
                continue
            self._data += data
            self._tell()
            while self._most is not None and len(self._data) - self._read >= self._most and not self._ended:
                self.full.set()
                await self._news.wait()
        self.end()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._tell()

    async def pieces(self, offset: int, sizes: Callable[[], int]) -> AsyncGenerator[bytes]:
        """Yield what there is from an offset on, in pieces of these sizes, until the end."""
        while True:
            news = self._news
            if offset < len(self._data):
                piece = bytes(self._data[offset : offset + min(sizes(), _MOST)])
                offset += len(piece)
                yield piece
                if offset > self._read:
                    self._read = offset
                    self._tell()
            elif self._ended:
                return
            else:
                await news.wait()

    def _tell(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()
