"""One event loop for all tests, and a host that has a key, for agents which the tests themselves start."""

from __future__ import annotations

import pytest
from cli.in_process import run_here
from support.hosting import give_key

__all__ = ["anyio_backend", "host_key", "run_here"]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run each test once: the command is a process of its own, whatever event loop the test has."""
    return "asyncio"


@pytest.fixture
def host_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this host a key and no way to a model: nothing listens at its address."""
    give_key(monkeypatch, "sk-ant-of-the-tests")
