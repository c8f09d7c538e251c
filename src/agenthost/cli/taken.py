"""An agent that this process has taken over, and the ways to be done with it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import anyio

from agenthost.agent import HostedAgent
from agenthost.cli.finding import Found
from agenthost.cli.looking import View
from agenthost.cli.output import download
from agenthost.cli.transcript import Transcript
from agenthost.errors import AgentHostError

_EXIT_SECONDS = 5.0  # that an agent which has told its end may need to be gone


class Taken:
    """An agent that this process drives, and the ways to be done with it. None is cut short."""

    def __init__(
        self, found: Found, view: View, agent: HostedAgent, transcript: Transcript, *, again: str
    ) -> None:
        self._found = found
        self._view = view
        self._agent = agent
        self._transcript = transcript
        self._again = again  # what the next command needs to find it

    async def drop(self) -> None:
        """It is another's, or there is nothing left of it: ends nothing."""
        with anyio.CancelScope(shield=True), contextlib.suppress(AgentHostError):  # what is known already
            await self._agent.disconnect()

    async def leave(self, *, ended: bool = False) -> None:
        """Let it run on, and say how to come back."""
        found, cursor = self._found, self._agent.cursor
        with anyio.CancelScope(shield=True):
            try:
                await self._agent.detach()
            except AgentHostError as error:
                # The link has gone, and with it this process's part in the agent.
                self._transcript.note("", f"it cannot be told: {error}", "red")
                await self.drop()
        say = self._transcript.note
        if ended:
            say("", f"the agent has ended; its {found.seen.title} has not")
        else:
            waits = "; when it asks the model, it waits for somebody to come" if found.status.model else ""
            say("", f"{found.name} runs on in {found.seen.title}{waits}")
            say("", f"come back: agenthost attach {found.name} --after {cursor}{self._again}")
        say("", f"end it: agenthost stop {found.name}{self._again}")

    async def has_ended(self) -> bool:
        """Ask the guest whether it has."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(_EXIT_SECONDS):
            try:
                async with self._found.sandbox.observe_agent(self._found.name) as journal:
                    await journal.wait()
                    return True
            except AgentHostError:
                return False
        return False

    async def finish(self, target: Path | None) -> None:
        """End it and, if nobody else lives there, its sandbox."""
        try:
            if target is not None:
                await download(self._agent, target, "Nothing was ended: try again with another --download")
                self._transcript.step(f"downloaded to {target}")
        except BaseException:
            await self.leave()
            raise
        with anyio.CancelScope(shield=True):
            self._transcript.note("", await self._end(), "dim")

    async def _end(self) -> str:
        await self._agent.disconnect()
        name, seen = self._found.name, self._found.seen
        others = len(await self._found.sandbox.agents())
        if others:
            return f"{name} has ended; {others} more live in {seen.title}, which runs on"
        await self._found.sandbox.terminate()
        return f"{name} has ended, and {seen.title}, too"

    def succeeded(self) -> bool:
        """Return whether its last result is no error."""
        if self._transcript.result is not None:
            return not self._transcript.result.is_error
        if self._view.failed is None:
            self._transcript.note("", "it was never asked anything", "red")
        return self._view.failed is False
