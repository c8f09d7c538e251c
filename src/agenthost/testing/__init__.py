"""Doubles and kits for tests of agents and of adapters."""

from agenthost.testing.fake_cli import FakeCLI
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
    "Block",
    "Cut",
    "FakeCLI",
    "Hold",
    "Item",
    "ModelRequest",
    "ScriptError",
    "ScriptedModel",
    "Stall",
    "Step",
    "StreamError",
    "Text",
    "Thinking",
    "ToolResult",
    "ToolUse",
    "Turn",
]
