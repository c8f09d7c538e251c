"""What a question from inside must look like before a function of the host is called.

The CLI writes JSON, so an honest question holds nothing else. A value of another kind, bytes for example,
would be one thing to the check that reads it first and another to the library that reads it next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

LONGEST_NAME = 512  # characters of a tool's name; the Messages API takes 128
# How the wire writes values of JSON that Python's own JSON does not bring over: see ``wire.codec``.
_OF_JSON = frozenset({"$str", "$int", "$float"})
# What the CLI tells every PreToolUse hook. A hook that fails over a missing field has approved nothing.
_OF_TOOL_HOOKS = ("session_id", "transcript_path", "cwd", "tool_name", "tool_input")


def check_question(event: Mapping[str, Any]) -> None:
    """Refuse a question about a tool that the CLI cannot have asked.

    Args:
        event: The question, as it came over the wire.

    Raises:
        ValueError: It holds more than JSON, lacks a field, or names the tool by something else than a text.
    """
    match event["what"]:
        case "can_use_tool":
            _check_json(event["input"])
            _check_name(event["tool_name"])
        case "hook":
            given = _check_json(event["input"])
            if event["event"] == "PreToolUse":
                missing = [name for name in _OF_TOOL_HOOKS if name not in given]
                if missing:
                    raise ValueError(f"the question lacks {', '.join(missing)}")
            if "tool_name" in given:
                _check_name(given["tool_name"])
        case "mcp":
            message = _check_json(event["message"])
            method = message.get("method")
            if "method" in message and not isinstance(method, str):
                raise ValueError("the method of an MCP message is not a text")
            if method == "tools/call":
                params: object = message.get("params")
                _check_name(cast("dict[str, Any]", params).get("name") if isinstance(params, dict) else None)
        case _:
            pass


def _check_json(value: object) -> dict[str, Any]:
    """Return a value that is an object of JSON and holds nothing else."""
    if not isinstance(value, dict):
        raise ValueError("the question is not an object of JSON")
    waiting: list[object] = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            for key, item in cast("dict[str, object]", found).items():
                if key[:1] == "$" and key[:2] != "$$" and key not in _OF_JSON:
                    raise ValueError(f"the question holds a value that is not JSON ({key[:20]})")
                waiting.append(item)
        elif isinstance(found, list):
            waiting.extend(cast("list[object]", found))
    return cast("dict[str, Any]", value)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or len(name) > LONGEST_NAME:
        raise ValueError("the name of a tool is not a text of at most 512 characters")
