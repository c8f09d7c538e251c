"""How many schedules of faults, and which."""

from __future__ import annotations

import pytest
from support.hosting import KEY


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flags. They are there when this directory or something in it is named on the command line."""
    group = parser.getgroup("agenthost")
    group.addoption("--fault-schedules", type=int, help="schedules of faults to try [40; 500 with --full]")
    group.addoption("--fault-seed", type=int, help="seed of the first, or of the only one")


@pytest.fixture(autouse=True)
def key_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this host a key and no other way to a model; nothing listens at its address."""
    for name in ("AUTH_TOKEN", "CUSTOM_HEADERS"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
