"""A sandbox of each kind for the tests of a module, and how many patterns git is asked about."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from files.boxes import open_box
from hypothesis import HealthCheck, settings

from agenthost.sandbox import Sandbox

_NORMAL, _FULL = 150, 1000


def pytest_configure(config: pytest.Config) -> None:
    """Make the profile that patterns are compared with: git is a program of its own for each."""
    settings.register_profile(
        "patterns-of-git",
        max_examples=_FULL if config.getoption("--full") else _NORMAL,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


@pytest.fixture(scope="module", params=["local", pytest.param("local-unisolated", marks=pytest.mark.full)])
async def box(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Sandbox]:
    """Give a sandbox that the tests of a module share: they leave nothing behind in it."""
    del anyio_backend
    async with open_box(request.param) as sandbox:
        yield sandbox
