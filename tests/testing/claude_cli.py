"""The real ``claude`` CLI in a home of its own, asking a scripted model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, Message, query

FAKE_KEY = "sk-ant-scripted-0000"


def _drop(line: str) -> None:
    """Keep the CLI's stderr out of the test's."""


def cli_options(url: str, directory: Path, **options: Any) -> ClaudeAgentOptions:
    """Return options for a CLI that keeps its files below ``directory`` and works in ``directory/work``."""
    work, temporary = directory / "work", directory / "tmp"
    for path in (work, temporary):
        path.mkdir(exist_ok=True)
    env = {
        "HOME": str(directory / "home"),
        "CLAUDE_CONFIG_DIR": str(directory / "config"),
        "TMPDIR": str(temporary),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": FAKE_KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    }
    settings: dict[str, Any] = {
        "cwd": work,
        "env": {**env, **options.pop("env", {})},
        "setting_sources": [],
        "stderr": _drop,
    }
    return ClaudeAgentOptions(**{**settings, **options})


async def ask(options: ClaudeAgentOptions, prompt: str = "Go on.") -> list[Message]:
    """Return every message of one turn of a fresh CLI."""
    return [message async for message in query(prompt=prompt, options=options)]
