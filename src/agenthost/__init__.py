"""Host the Claude Agent SDK in any sandbox.

    from agenthost import HostedAgent
    from claude_agent_sdk import ClaudeAgentOptions

    # In an isolated sandbox an agent may work without asking; without a mode, Bash and Write are refused.
    options = ClaudeAgentOptions(permission_mode="bypassPermissions", max_turns=20)
    async with HostedAgent(options, provider="local", workspace="./app") as agent:
        await agent.query("Fix the failing test")
        async for message in agent.receive_response():
            print(message)
        await agent.download("./fixed")

Names are loaded on first use: importing this package loads neither the SDK nor a provider's client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agenthost.agent import (
        AgentRef,
        Audit,
        Cursor,
        HostedAgent,
        SafeDefaults,
        message_from_json,
        message_to_json,
        query,
    )
    from agenthost.config import Config, load_config
    from agenthost.errors import AgentHostError
    from agenthost.prewarming import prewarm
    from agenthost.reaping import Reaped, reap
    from agenthost.registry import open_provider, register_provider
    from agenthost.sandbox import (
        Capabilities,
        ExecResult,
        Process,
        Sandbox,
        SandboxInfo,
        SandboxProvider,
    )
    from agenthost.spec import (
        HeaderInjection,
        Limits,
        Mount,
        NetworkPolicy,
        ResourceLimits,
        SandboxSpec,
    )

__version__ = "0.1.0"

__all__ = [
    "AgentHostError",
    "AgentRef",
    "Audit",
    "Capabilities",
    "Config",
    "Cursor",
    "ExecResult",
    "HeaderInjection",
    "HostedAgent",
    "Limits",
    "Mount",
    "NetworkPolicy",
    "Process",
    "Reaped",
    "ResourceLimits",
    "SafeDefaults",
    "Sandbox",
    "SandboxInfo",
    "SandboxProvider",
    "SandboxSpec",
    "load_config",
    "message_from_json",
    "message_to_json",
    "open_provider",
    "prewarm",
    "query",
    "reap",
    "register_provider",
]

_WHERE = {
    "AgentHostError": "errors",
    "AgentRef": "agent",
    "Audit": "agent",
    "Capabilities": "sandbox",
    "Config": "config",
    "Cursor": "agent",
    "ExecResult": "sandbox",
    "HeaderInjection": "spec",
    "HostedAgent": "agent",
    "Limits": "spec",
    "Mount": "spec",
    "NetworkPolicy": "spec",
    "Process": "sandbox",
    "Reaped": "reaping",
    "ResourceLimits": "spec",
    "SafeDefaults": "agent",
    "Sandbox": "sandbox",
    "SandboxInfo": "sandbox",
    "SandboxProvider": "sandbox",
    "SandboxSpec": "spec",
    "load_config": "config",
    "message_from_json": "agent",
    "message_to_json": "agent",
    "open_provider": "registry",
    "prewarm": "prewarming",
    "query": "agent",
    "reap": "reaping",
    "register_provider": "registry",
}


def __getattr__(name: str) -> object:
    """Load a public name."""
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module 'agenthost' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"agenthost.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *__all__])
