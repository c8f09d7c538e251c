"""A host that has a key and no way to a model."""

from __future__ import annotations

import pytest
from support.hosting import KEY


@pytest.fixture(autouse=True)
def key_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this host a key and no other way to a model; nothing listens at its address."""
    for name in ("AUTH_TOKEN", "CUSTOM_HEADERS"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
