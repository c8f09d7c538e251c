"""Bytes to lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


async def read_lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield each line without its newline, of any length. What follows the last newline is no line."""
    parts: list[bytes] = []
    while data := await reader.read(1 << 18):
        first, *rest = data.split(b"\n")
        parts.append(first)
        for part in rest:
            line = b"".join(parts)
            parts = [part]
            if line:
                yield line
