"""A sandbox of each kind for the tests of a module: starting one costs more than most tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from files.boxes import open_box

from agenthost.sandbox import Sandbox


@pytest.fixture(scope="module", params=["local", pytest.param("local-unisolated", marks=pytest.mark.full)])
async def box(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Sandbox]:
    """Give a sandbox that the tests of a module share: they leave nothing behind in it."""
    del anyio_backend
    async with open_box(request.param) as sandbox:
        yield sandbox
