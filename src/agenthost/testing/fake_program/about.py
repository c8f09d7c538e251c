"""What the command line and the environment say."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

VERSION = "2.1.330"  # the one whose frames these are


def option(name: str) -> str | None:
    """Return an option of the command line, however it was written."""
    for number, argument in enumerate(sys.argv):
        if argument == name:
            return sys.argv[number + 1]
        if argument.startswith(name + "="):
            return argument[len(name) + 1 :]
    return None


def sdk_servers() -> list[str]:
    """Return the names of the MCP servers that live in the SDK's process."""
    config = option("--mcp-config") or "{}"
    if not config.lstrip().startswith("{"):
        with open(config, encoding="utf-8") as file:
            config = file.read()
    servers: dict[str, Any] = json.loads(config).get("mcpServers") or {}
    return [name for name, server in servers.items() if server.get("type") == "sdk"]


def transcript(session: str) -> str:
    """Return where the CLI would keep a session."""
    base = os.environ.get("CLAUDE_CONFIG_DIR") or os.path.expanduser("~/.claude")
    project = "".join(letter if letter.isalnum() else "-" for letter in os.getcwd())
    return os.path.join(base, "projects", project, session + ".jsonl")


def server_info() -> dict[str, Any]:
    """Return the answer to ``initialize``."""
    return {
        "commands": [{"name": "fake", "description": "does nothing", "argumentHint": ""}],
        "agents": [],
        "models": [],
        "account": {},
        "output_style": "default",
        "available_output_styles": ["default"],
        "pid": os.getpid(),
        "claude_code_version": VERSION,
        "hooks_applied": True,
        "hook_on_failure_supported": True,
        "session_state": "idle",
    }
