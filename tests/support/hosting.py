"""Hosted agents in tests, with a scripted model."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from claude_agent_sdk import PermissionResultAllow

from agenthost import open_provider
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


def model_environment(model: ScriptedModel, key: str) -> dict[str, str]:
    """Return the variables with which a program asks a scripted model that wants this key."""
    return {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": key}


def give_key(monkeypatch: pytest.MonkeyPatch, key: str = KEY) -> None:
    """Give this host a key and no other way to a model; nothing listens at its address."""
    for name in tuple(os.environ):
        if name.startswith("ANTHROPIC_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")


async def sandboxes_of(provider: str) -> list[str]:
    """Return the ids of the sandboxes that a provider has, in order."""
    async with open_provider(provider) as opened:
        return sorted([info.id async for info in opened.list()])


async def allow(*_: object) -> PermissionResultAllow:
    """Be a ``can_use_tool`` that lets everything pass."""
    return PermissionResultAllow()
