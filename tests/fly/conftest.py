"""What every test of the fly provider gets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agenthost.link.client import GuestSandbox
from agenthost.providers.fly.provider import FlyProvider
from agenthost.spec import SandboxSpec
from agenthost.testing.emulators.fly import Emulator, emulator


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both loops: there is no client of the vendor's."""
    backend: str = request.param
    return backend


@pytest.fixture(scope="module")
async def fly(anyio_backend: str) -> AsyncIterator[Emulator]:
    """Give an emulator, as hostile as Fly. Its image has no SDK."""
    del anyio_backend
    async with emulator() as running:
        yield running
        assert running.unknown == []


@pytest.fixture(scope="module")
async def provider(fly: Emulator) -> AsyncIterator[FlyProvider]:
    """Give the provider, open."""
    async with FlyProvider(**fly.options) as opened:
        yield opened


@pytest.fixture
async def box(provider: FlyProvider) -> AsyncIterator[GuestSandbox]:
    """Give a sandbox of one test's own."""
    sandbox = await provider.create(SandboxSpec())
    try:
        yield sandbox
    finally:
        await sandbox.terminate()
