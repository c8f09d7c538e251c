"""What a program prints, kept by offset: a reader may come back and go on where it was."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import anyio

_MOST = 256 * 1024  # bytes in one message


class Output:
    """One stream of one program."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ended = False
        self._news = anyio.Event()

    async def collect(self, receive: Callable[[], Awaitable[bytes]]) -> None:
        """Take everything that a program prints, whoever reads it."""
        while data := await receive():
            self._data += data
            self._tell()
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
            elif self._ended:
                return
            else:
                await news.wait()

    def _tell(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()
