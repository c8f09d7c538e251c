"""Doubles and kits for tests of agents and of adapters. Names are loaded on first use."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agenthost.testing.conformance import HostedAgentConformance, SandboxConformance
    from agenthost.testing.edge import Edge, EdgeFault, EdgeRules
    from agenthost.testing.fake_agent import FakeAgent
    from agenthost.testing.fake_cli import FakeCLI
    from agenthost.testing.fake_clock import FakeClock
    from agenthost.testing.fake_process import FakeRun, ProgramView
    from agenthost.testing.fake_programs import Scripted
    from agenthost.testing.fake_provider import FakeProvider
    from agenthost.testing.fake_sandbox import FakeSandbox
    from agenthost.testing.fake_turns import Asked, HookCall, ToolCall
    from agenthost.testing.faults import Fault, LinkFaults
    from agenthost.testing.requests import ModelRequest, ToolResult
    from agenthost.testing.script import (
        Answer,
        ApiError,
        Block,
        Cut,
        Hold,
        Item,
        Stall,
        Step,
        StreamError,
        Text,
        Thinking,
        ToolUse,
        Turn,
    )
    from agenthost.testing.scripted_model import ScriptedModel, ScriptError

__all__ = [
    "Answer",
    "ApiError",
    "Asked",
    "Block",
    "Cut",
    "Edge",
    "EdgeFault",
    "EdgeRules",
    "FakeAgent",
    "FakeCLI",
    "FakeClock",
    "FakeProvider",
    "FakeRun",
    "FakeSandbox",
    "Fault",
    "Hold",
    "HookCall",
    "HostedAgentConformance",
    "Item",
    "LinkFaults",
    "ModelRequest",
    "ProgramView",
    "SandboxConformance",
    "ScriptError",
    "Scripted",
    "ScriptedModel",
    "Stall",
    "Step",
    "StreamError",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolResult",
    "ToolUse",
    "Turn",
]

_WHERE = {
    "Asked": "fake_turns",
    "Edge": "edge",
    "EdgeFault": "edge",
    "EdgeRules": "edge",
    "FakeAgent": "fake_agent",
    "FakeCLI": "fake_cli",
    "FakeClock": "fake_clock",
    "FakeProvider": "fake_provider",
    "FakeRun": "fake_process",
    "FakeSandbox": "fake_sandbox",
    "Fault": "faults",
    "HookCall": "fake_turns",
    "LinkFaults": "faults",
    "ModelRequest": "requests",
    "ProgramView": "fake_process",
    "HostedAgentConformance": "conformance",
    "SandboxConformance": "conformance",
    "ScriptError": "scripted_model",
    "Scripted": "fake_programs",
    "ScriptedModel": "scripted_model",
    "ToolCall": "fake_turns",
    "ToolResult": "requests",
}

if "pytest" in sys.modules:
    import pytest

    # So that a check that fails shows what was compared.
    pytest.register_assert_rewrite("agenthost.testing.conformance")


def __getattr__(name: str) -> object:
    """Load a public name; those that are not in the table are words of a script."""
    if name not in __all__:
        raise AttributeError(f"module 'agenthost.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"agenthost.testing.{_WHERE.get(name, 'script')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *__all__])
