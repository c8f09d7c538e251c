"""The pages and the README show programs and commands of their own processes."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run each test once: the loop of the test is not the one of the program."""
    return "asyncio"
