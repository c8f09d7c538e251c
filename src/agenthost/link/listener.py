"""Who hears from a link what happens to one agent."""

from __future__ import annotations

from typing import Protocol


class AgentListener(Protocol):
    """What is told what happens to one agent."""

    def opened(self, sid: str, answer_sid: str) -> None:
        """The agent asks the model, on this stream; the answer goes on that one."""
        ...

    def shut(self, sid: str) -> None:
        """The guest is done with a stream, of this agent or of another."""
        ...

    def close(self) -> None:
        """Be done with all its streams."""
        ...

    def fail(self, error: Exception) -> None:
        """This host drives the agent no more."""
        ...
