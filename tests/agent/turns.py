"""Turns of an agent, and a callback that keeps a turn waiting."""

from __future__ import annotations

from typing import Any, NoReturn

import anyio

from agenthost import HostedAgent


async def response(agent: HostedAgent) -> list[Any]:
    """Return the messages up to the next result."""
    return [message async for message in agent.receive_response()]


async def turn(agent: HostedAgent, prompt: str) -> list[Any]:
    """Send a prompt and return the messages up to its result."""
    await agent.query(prompt)
    return await response(agent)


class Unanswered:
    """A callback that does not answer; ``called`` and ``cancelled`` are set when its call begins and ends."""

    def __init__(self) -> None:
        self.called = anyio.Event()
        self.cancelled = anyio.Event()

    async def call(self, *_: object) -> NoReturn:
        """Wait until the call is cancelled."""
        self.called.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.cancelled.set()
        raise AssertionError
