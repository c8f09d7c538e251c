"""Agents that live on without a host, for tests of what finds them and takes them over."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import anyio
from support.hosting import sandboxes_of

from agenthost import AgentRef, HostedAgent, Sandbox, open_provider
from agenthost.agent.credentials import Credentials
from agenthost.cli.events import read_events
from agenthost.errors import SandboxGoneError, SandboxNotFoundError
from agenthost.link.client import GuestSandbox
from agenthost.testing import FakeCLI
from agenthost.testing.fake_cli import Step

PLAIN = "local-unisolated"


@asynccontextmanager
async def detached(
    directory: Path,
    *turns: list[Step],
    prompts: int = 1,
    sandbox: Sandbox | None = None,
    credentials: Credentials = "host",
    **options: Any,
) -> AsyncGenerator[AgentRef]:
    """Start an agent with a scripted CLI, prompt it, leave it, and end its sandbox at last.

    Args:
        directory: Of the test's own; the CLI is put there.
        turns: What the CLI plays.
        prompts: How many prompts it is sent.
        sandbox: Where to start it; it is then not ended.
        credentials: As for HostedAgent.
        options: Of the agent.
    """
    cli = FakeCLI(*turns).write(directory / f"claude-{secrets.token_hex(4)}")
    place: dict[str, Any] = {"provider": PLAIN} if sandbox is None else {"sandbox": sandbox}
    async with HostedAgent({"cli_path": cli, **options}, credentials=credentials, **place) as agent:
        for number in range(prompts):
            await agent.query(f"prompt {number}")
        ref = await agent.detach()
    try:
        yield ref
    finally:
        if sandbox is None:
            await end(ref)


async def end(ref: AgentRef) -> None:
    """End its sandbox, if it is there."""
    async with open_provider(ref.provider) as provider:
        try:
            await (await provider.get(ref.sandbox)).terminate()
        except (SandboxNotFoundError, SandboxGoneError):
            return


async def is_there(ref: AgentRef) -> bool:
    """Return whether its sandbox is."""
    return ref.sandbox in await sandboxes_of(ref.provider)


async def never(*_: object) -> NoReturn:
    """Be a callback that does not answer."""
    await anyio.sleep_forever()
    raise AssertionError


async def happened(ref: AgentRef, text: str = "", **fields: Any) -> None:
    """Wait, as an observer, until its journal has an event with these fields and this text in it."""
    async with open_provider(ref.provider) as provider:
        sandbox = await provider.get(ref.sandbox)
        assert isinstance(sandbox, GuestSandbox)
        async with read_events(sandbox, ref.agent, after=0) as events:
            async for event in events:
                if fields.items() <= event.fields().items() and text in event.line.decode():
                    return
    raise AssertionError(f"{ref.agent} has ended before {fields} {text}")
