"""One conversation in a sandbox that ends with it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import TYPE_CHECKING, Any

from agenthost.agent.audit.settings import Audit, AuditLevel
from agenthost.agent.credentials import Credentials
from agenthost.agent.defaults import SafeDefaults
from agenthost.agent.hosted import HostedAgent
from agenthost.agent.progress import Progress
from agenthost.sandbox import Sandbox, SandboxProvider
from agenthost.spec import Limits, SandboxSpec

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, Message


async def query(
    *,
    prompt: str | AsyncIterable[dict[str, Any]],
    options: ClaudeAgentOptions | dict[str, Any] | None = None,
    provider: str | SandboxProvider | None = None,
    sandbox: Sandbox | None = None,
    spec: SandboxSpec | None = None,
    workspace: str | os.PathLike[str] | None = None,
    credentials: Credentials = "host",
    limits: Limits | None = None,
    defaults: SafeDefaults | None = SafeDefaults(),  # noqa: B008 - a frozen value
    on_progress: Callable[[Progress], None] | None = None,
    audit: Audit | AuditLevel | None = None,
) -> AsyncGenerator[Message]:
    """Ask, and yield the messages of the answer: ``claude_agent_sdk.query`` in a sandbox that ends with it.

    Iterate to the end. Whoever stops early closes the iterator, best by ``contextlib.aclosing``; one that is
    dropped is closed by the event loop some time later.

    Args:
        prompt: Text, or a stream of message dicts.
        options: And all others: see HostedAgent.

    Raises:
        claude_agent_sdk.ResultError: After the messages, when the last result is an error.
    """
    agent = HostedAgent(
        options,
        provider=provider,
        sandbox=sandbox,
        spec=spec,
        workspace=workspace,
        credentials=credentials,
        limits=limits,
        defaults=defaults,
        on_progress=on_progress,
        audit=audit,
    )
    try:
        await agent.connect(prompt)
        if isinstance(prompt, str):
            await agent.finish_input()
        async for message in agent.receive_messages():
            yield message
    finally:
        await agent.disconnect()
