"""What every test of the e2b provider gets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.boxes import own_box

from agenthost.link.client import GuestSandbox
from agenthost.providers.e2b.provider import E2BProvider
from agenthost.testing.emulators.e2b import Emulator, emulator


@pytest.fixture(scope="module", params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on asyncio alone: E2B's client knows nothing else, and trio is refused."""
    backend: str = request.param
    return backend


@pytest.fixture(scope="module")
async def e2b(anyio_backend: str, e2b_template: dict[str, Path]) -> AsyncIterator[Emulator]:
    """Give an emulator, as hostile as E2B, that has the template."""
    del anyio_backend
    async with emulator(templates=e2b_template) as running:
        yield running
        assert running.unknown == []


@pytest.fixture(scope="module")
async def provider(e2b: Emulator) -> AsyncIterator[E2BProvider]:
    """Give the provider, open."""
    async with E2BProvider(**e2b.options) as opened:
        yield opened


@pytest.fixture
async def box(provider: E2BProvider) -> AsyncIterator[GuestSandbox]:
    """Give a sandbox of one test's own."""
    async with own_box(provider) as sandbox:
        yield sandbox
