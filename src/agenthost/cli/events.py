"""An agent's journal as somebody reads it who changes nothing: its events, each with its place."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from agenthost.agent import Cursor
from agenthost.agent.sdk import load_json
from agenthost.errors import AgentError

if TYPE_CHECKING:
    from agenthost.link.channel import Observation
    from agenthost.link.client import GuestSandbox

# Every event begins so. Sixteen digits number more events than a journal can have.
_HEAD = re.compile(rb'\{"seq":(\d{1,16}),"ts":[\d.]{1,32},"kind":"([a-z_]{1,40})"')
_TYPE = re.compile(rb'"kind":"message","message":\{"\$type":"(\w{1,80})"')
_TYPE_WITHIN = 200  # bytes from the beginning


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a journal.

    Attributes:
        seq: Its number; the first is 1.
        kind: ``message``, ``state``, ``request`` ...
        begin: Its offset in bytes.
        line: All of it.
    """

    seq: int
    kind: str
    begin: int
    line: bytes

    @property
    def cursor(self) -> Cursor:
        """The place behind it."""
        return Cursor(self.seq, self.begin + len(self.line) + 1)

    @property
    def before(self) -> Cursor:
        """The place before it."""
        return Cursor(self.seq - 1, self.begin)

    @property
    def message_type(self) -> str:
        """The name of a message's class, ``""`` for other events."""
        found = _TYPE.search(self.line, 0, _TYPE_WITHIN)
        return found[1].decode() if found else ""

    def fields(self) -> dict[str, Any]:
        """Return its content. What is in there was written in the sandbox.

        Raises:
            AgentError: It is no JSON object.
        """
        try:
            found = load_json(self.line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise AgentError(f"event {self.seq} of the agent's journal cannot be read")
        return cast("dict[str, Any]", found)


class Events:
    """Iterates over events until the agent has ended, or until a place that was written already.

    Args:
        journal: What to read.
        exact: Whether an event begins where reading begins. Otherwise the first line is left out, whatever
            it looks like: what an agent has written may look like the beginning of an event.
        begin: What begins before this offset is left out.
        until: The offset to read to.
    """

    def __init__(self, journal: Observation, *, exact: bool, begin: int = 0, until: int | None) -> None:
        self._journal = journal
        self._exact = exact
        self._begin = begin
        self._until = until
        self._place: int | None = None
        self._parts: list[bytes] = []
        self._events: deque[Event] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event.

        Raises:
            AgentError: What stands there is no event.
            LinkError: The journal cannot be read on; ReplayGapError when its beginning has gone.
        """
        while not self._events:
            if self._until is not None and self._journal.received >= self._until:
                raise StopAsyncIteration
            data = await self._journal.receive()
            if not data:
                raise StopAsyncIteration
            self._take(data)
        return self._events.popleft()

    def _take(self, data: bytes) -> None:
        if self._place is None:
            self._place = self._journal.received - len(data)
            self._exact = self._exact or self._place == 0
        first, *more = data.split(b"\n")
        self._parts.append(first)
        for part in more:
            line = b"".join(self._parts)
            self._parts = [part]
            found = _HEAD.match(line)
            if self._exact and not found:
                raise AgentError(f"no event begins at byte {self._place} of the agent's journal")
            if self._exact and found and self._place >= self._begin:
                self._events.append(Event(int(found[1]), found[2].decode(), self._place, line))
            self._exact = True
            self._place += len(line) + 1


@asynccontextmanager
async def read_events(
    sandbox: GuestSandbox, agent: str, *, after: Cursor | int | None, until: int | None = None
) -> AsyncGenerator[Events]:
    """Read a journal as an observer.

    Args:
        sandbox: Where the agent is.
        agent: Its name.
        after: A cursor; an offset above 0, from which on whole events are read; or None, what is kept.
        until: The offset to read to; None is the agent's end.
    """
    exact = isinstance(after, Cursor)
    begin = after.offset if isinstance(after, Cursor) else after or 0
    # The byte before tells whether an event begins at an offset.
    offset = None if after is None else begin if exact else max(begin - 1, 0)
    async with sandbox.observe_agent(agent, after=offset) as journal:
        yield Events(journal, exact=exact, begin=begin, until=until)
