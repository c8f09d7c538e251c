"""What every test gets."""

from __future__ import annotations

import pytest

pytest_plugins = ["support.leftovers", "support.loopback_guard", "support.reporting"]


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each async test on both backends."""
    backend: str = request.param
    return backend
