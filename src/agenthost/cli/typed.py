"""Lines of stdin, as they are typed: from a terminal, a pipe or a file."""

from __future__ import annotations

import errno
import os
import sys
from typing import Self

import anyio
import anyio.lowlevel

_PIECE = 64 * 1024


class TypedLines:
    """Iterates over the lines of stdin. Waiting for one can be cancelled, whatever stdin is."""

    def __init__(self) -> None:
        self._fd = None if sys.stdin is None or sys.stdin.closed else sys.stdin.fileno()
        self._rest = b""
        self._ended = self._fd is None

    @property
    def is_terminal(self) -> bool:
        """Whether a person may be typing."""
        return self._fd is not None and os.isatty(self._fd)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        """Return the next line without its end. What is no UTF-8 is replaced."""
        while b"\n" not in self._rest and not self._ended:
            data = await self._read()
            self._ended = not data
            self._rest += data
        if not self._rest:
            raise StopAsyncIteration
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")

    async def _read(self) -> bytes:
        assert self._fd is not None
        try:
            await anyio.wait_readable(self._fd)
        except PermissionError:
            await anyio.lowlevel.checkpoint()  # a file: the kernel has nothing to wait for there
        try:
            return os.read(self._fd, _PIECE)
        except OSError as error:
            if error.errno == errno.EIO:  # the terminal has gone
                return b""
            raise
