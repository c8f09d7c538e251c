"""Who may come to an agent."""

from __future__ import annotations

from typing import Any

from agenthost.wire.settings import WireSettings
from agenthost.wire.streams import LineInput, RecvStream

# What the driver of an agent may call without control of the sandbox; ``agent`` in the parameters names it.
AGENT_METHODS = frozenset(["signal", "wait", "release", "cut"])


class Door:
    """Who may come to one agent, and who drives it."""

    def __init__(self, agent: str, verifiers: dict[str, str], settings: WireSettings) -> None:
        if not agent or "/" in agent:  # the names of its streams begin with a/{agent}/
            raise ValueError(f"{agent!r} cannot be the name of an agent")
        self.agent = agent
        self.verifiers = verifiers
        self.epoch = 0
        self.driver: str | None = None  # a link id
        # The number of the grant by which each link came to drive last: the same question, asked again
        # because our answer was lost, makes no new driver.
        self.asked: dict[str, int] = {}
        self.input = LineInput(f"a/{agent}/in", window=settings.window, max_line=settings.max_input_line)
        # Streams that only the driver may send: the input, and answers to what the agent asked.
        self.inputs: dict[str, RecvStream] = {self.input.sid: self.input}
        # Streams that the guest opened by itself and the driver is told of.
        self.opened: dict[str, dict[str, Any]] = {}
