"""A scripted model in place of the real one, for agents whose key stays on the host."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from support.hosting import KEY, scripted

from agenthost.testing import ScriptedModel

Script = Callable[..., AbstractAsyncContextManager[ScriptedModel]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Return what plays a script at the address that the host's environment names."""
    for name in ("AUTH_TOKEN", "CUSTOM_HEADERS"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)

    def play(*steps: object, **options: object) -> AbstractAsyncContextManager[ScriptedModel]:
        return scripted(monkeypatch, *steps, **options)

    return play
