"""The agent's output stream: one line of JSON for each event, paced by its reader."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from agenthost.runner.stderr import StderrTail

# Events of this long are written together: a flood of partial messages costs one write, not hundreds.
COALESCE_SECONDS = 0.002
# Once so much waits, the reader of the CLI's messages is stalled, and so, in the end, is the CLI.
HIGH_WATER = 1 << 20
# Lines of stderr arrive in a callback, which cannot wait: beyond this they are counted, not kept.
STDERR_HIGH_WATER = 2 << 20

_dumps = json.JSONEncoder(separators=(",", ":")).encode


class Journal(asyncio.BaseProtocol):
    """Writes events to a pipe. All methods belong to the loop's thread."""

    def __init__(self) -> None:
        self.stderr = StderrTail()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._lines: list[bytes] = []
        self._size = 0
        self._sequence = 0
        self.size = 0  # bytes of all events so far, written or about to be
        self._timer: asyncio.Handle | None = None
        self._last_write = 0.0
        self._dropped = 0
        self._room = asyncio.Event()
        self._room.set()
        self.closed = self._loop.create_future()

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the pipe."""
        assert isinstance(transport, asyncio.WriteTransport)
        transport.set_write_buffer_limits(high=HIGH_WATER, low=HIGH_WATER // 4)
        self._transport = transport

    def pause_writing(self) -> None:
        """Stall those who write messages."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Let them go on."""
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody reads any more."""
        self._room.set()
        if not self.closed.done():
            self.closed.set_result(exc)

    # ---- events

    def emit(self, kind: str, **fields: Any) -> None:
        """Write one event of plain data."""
        self._add(kind.encode("ascii"), _dumps(fields)[1:].encode("ascii"))

    def message(self, encoded: bytes) -> bool:
        """Write a message, given as encoded JSON. True when its sender has to ``wait_for_room``."""
        self._add(b"message", b'"message":%b}' % encoded)
        return not self._room.is_set()

    async def wait_for_room(self) -> None:
        """Wait while too much is waiting to be read."""
        await self._room.wait()

    def stderr_line(self, line: str) -> None:
        """Write a line of the CLI's stderr, or count it while the reader is too far behind."""
        self.stderr.add(line)
        if self.backlog > STDERR_HIGH_WATER:
            self._dropped += 1
            return
        if self._dropped:
            self.emit("stderr", line=line, dropped=self._dropped)
            self._dropped = 0
        else:
            self.emit("stderr", line=line)

    @property
    def backlog(self) -> int:
        """How many bytes wait to be read, beyond what the pipe holds."""
        waiting = self._transport.get_write_buffer_size() if self._transport else 0
        return self._size + waiting

    async def finish(self, **fields: Any) -> None:
        """Write ``end`` as the last event, and return when the pipe has taken all of it or is closed."""
        if self._dropped:
            self.emit("stderr", line="", dropped=self._dropped)
        self.emit("end", **fields)
        self._write()
        if self._transport is not None:
            self._transport.close()  # asyncio closes a pipe after it took what was written
        await self.closed

    # ---- writing

    def _add(self, kind: bytes, rest: bytes) -> None:
        self._sequence += 1
        line = b'{"seq":%d,"ts":%.6f,"kind":"%b",%b\n' % (self._sequence, time.time(), kind, rest)
        self._lines.append(line)
        self._size += len(line)
        self.size += len(line)
        if self._size > HIGH_WATER:
            self._write()
        elif self._timer is None:
            wait = self._last_write + COALESCE_SECONDS - self._loop.time()
            # A single event goes out at the end of this turn of the loop, a flood every two milliseconds.
            soon = wait <= 0
            self._timer = (
                self._loop.call_soon(self._write) if soon else self._loop.call_later(wait, self._write)
            )

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._lines:
            return
        data = b"".join(self._lines)
        self._lines.clear()
        self._size = 0
        self._last_write = self._loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
