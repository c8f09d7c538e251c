"""When an agent that somebody else had started is done: every prompt has its result, and all was read."""

from __future__ import annotations

import anyio

from agenthost.agent import Cursor
from agenthost.cli.events import Event, read_events
from agenthost.cli.finding import Found
from agenthost.cli.looking import View
from agenthost.errors import AgentError

_OF_ITS_PROGRAM = {"hook": "a hook", "mcp": "an in-process MCP server", "store": "the session store"}


class CannotFinishError(AgentError):
    """Somebody else has to answer first. The agent runs on."""


class Finishing:
    """Watches an agent as an observer while this process drives it.

    Args:
        found: The agent.
        view: How it was when it was found.
        start: From where on it is read.
    """

    def __init__(self, found: Found, view: View, start: Cursor) -> None:
        self._found = found
        self._last = view.last
        self._read = start.seq
        self._idle = False
        self._done = anyio.Event()

    def heard(self, seq: int) -> None:
        """Take note of what was read."""
        self._read = seq
        self._look()

    async def wait(self) -> None:
        """Return when it is done."""
        await self._done.wait()

    async def watch(self) -> None:
        """Read what it tells from when it was found, until it has ended.

        Raises:
            CannotFinishError: It asks for a function of the program that had started it.
        """
        found = self._found
        async with read_events(found.sandbox, found.name, after=found.status.journal_end) as events:
            async for event in events:
                self._take(event)
                self._look()

    def _take(self, event: Event) -> None:
        if event.kind == "message":
            self._last = event.seq
        elif event.kind == "state":
            fields = event.fields()
            state = fields.get("state")
            if state == "attached":  # this process's own attachment: from here on nobody else sends prompts
                self._idle = fields.get("busy") is not True
            elif state in ("busy", "idle"):
                self._idle = state == "idle"
        elif event.kind == "request":
            what = _OF_ITS_PROGRAM.get(str(event.fields().get("what")))
            if what is not None:
                raise CannotFinishError(
                    f"agent {self._found.name} asks for {what} of the program that had started it: only a "
                    "program that has it, too, can finish the agent (HostedAgent.attach)"
                )

    def _look(self) -> None:
        if self._idle and self._read >= self._last:
            self._done.set()
