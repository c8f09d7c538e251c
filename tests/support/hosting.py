"""Hosted agents in tests: with a scripted model, and a CLI that is real or misbehaves."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.runner_process import FAKE_CLI

from agenthost.testing import ScriptedModel

KEY = "sk-ant-of-the-host"


@asynccontextmanager
async def scripted(
    monkeypatch: pytest.MonkeyPatch, *steps: Any, **options: Any
) -> AsyncGenerator[ScriptedModel]:
    """Play a script, or one function that answers everything, where the host's environment points to."""
    script: Any = steps[0] if len(steps) == 1 and callable(steps[0]) else list(steps)
    async with ScriptedModel(script, api_key=KEY, **options) as model:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", model.url)
        yield model


def fake_cli(act: str, record: Path | None = None, **options: Any) -> dict[str, Any]:
    """Return options for a CLI that does what ``act`` of support/fake_cli.py says."""
    env = {"FAKE_CLI": act, "FAKE_CLI_FILE": str(record or ""), **options.pop("env", {})}
    return {"cli_path": str(FAKE_CLI), "env": env, **options}
