"""A scripted model in place of the real one, for agents whose key stays on the host."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from support.hosting import give_key, scripted

from agenthost.testing import ScriptedModel

Script = Callable[..., AbstractAsyncContextManager[ScriptedModel]]


@pytest.fixture(autouse=True)
def key_of_the_host(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Give this host a key and no other way to a model; nothing listens at its address."""
    if request.path.name == "test_options.py":
        return  # says itself what there is
    give_key(monkeypatch)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Return what plays a script at the address that the host's environment names."""

    def play(*steps: object, **options: object) -> AbstractAsyncContextManager[ScriptedModel]:
        return scripted(monkeypatch, *steps, **options)

    return play
