"""A host that has a key and no way to a model."""

from __future__ import annotations

import pytest
from support.hosting import give_key


@pytest.fixture(autouse=True)
def key_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this host a key and no other way to a model; nothing listens at its address."""
    give_key(monkeypatch)
