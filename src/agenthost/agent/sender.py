"""Lines for the agent, each sent whole however its caller fares."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Protocol

import anyio

from agenthost.errors import ConfigError
from agenthost.wire.settings import WireSettings

_LONGEST = WireSettings().max_input_line
_dumps = json.JSONEncoder(separators=(",", ":")).encode


class LineSink(Protocol):
    """Where lines go: an AgentChannel."""

    async def send(self, line: bytes) -> None:
        """Send one line with its newline; return when it is buffered."""
        ...


class _Item:
    """A line and what became of it."""

    __slots__ = ("done", "error", "line", "unwanted")

    def __init__(self, line: bytes) -> None:
        self.line = line
        self.done = anyio.Event()
        self.error: Exception | None = None
        self.unwanted = False


class LineSender:
    """Sends lines in order. A caller that is cancelled takes its line back, unless it was begun.

    A line is never half sent: the rest of it would be read as the next one.
    """

    def __init__(self, sink: LineSink) -> None:
        self._sink = sink
        self._items: deque[_Item] = deque()
        self._news = anyio.Event()
        self._error: Exception | None = None

    async def run(self) -> None:
        """Send until cancelled. Errors go to those whose lines they hit, and to all who come later."""
        while True:
            while not self._items:
                self._news = anyio.Event()
                await self._news.wait()
            item = self._items.popleft()
            if not item.unwanted and self._error is None:
                try:
                    await self._sink.send(item.line)
                except Exception as error:  # noqa: BLE001 - raised again in ``send``
                    self._error = error
            item.error = self._error
            item.done.set()

    async def send(self, value: dict[str, Any]) -> None:
        """Send one line of JSON; returns when it is buffered.

        Raises:
            ConfigError: It is longer than an agent takes.
            Exception: What the channel raised.
        """
        item = _Item(_dumps(value).encode("ascii") + b"\n")
        if len(item.line) > _LONGEST:
            raise ConfigError(
                f"{len(item.line) >> 20} MiB are more than an agent takes at once, {_LONGEST >> 20} MiB"
            )
        self._items.append(item)
        self._news.set()
        try:
            await item.done.wait()
        except anyio.get_cancelled_exc_class():
            item.unwanted = True
            raise
        if item.error is not None:
            raise item.error
