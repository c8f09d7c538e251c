"""Hosted agents in tests, with a scripted model."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

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
