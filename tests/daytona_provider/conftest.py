"""What every test of the daytona provider gets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agenthost.link.client import GuestSandbox
from agenthost.providers.daytona.provider import DaytonaProvider
from agenthost.spec import SandboxSpec
from agenthost.testing.emulators.daytona import Emulator, emulator

VARIABLES = (
    *("DAYTONA_API_KEY", "DAYTONA_JWT_TOKEN", "DAYTONA_ORGANIZATION_ID", "DAYTONA_API_URL"),
    *("DAYTONA_TARGET", "DAYTONA_OTEL_ENABLED", "DAYTONA_USE_DEPRECATED_POLLING"),
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on asyncio, the only event loop that the vendor's client works on."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing of this machine's owner in the environment."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
async def daytona(anyio_backend: str, daytona_snapshot: dict[str, Path]) -> AsyncIterator[Emulator]:
    """Give an emulator, as hostile as Daytona, that has the snapshot."""
    del anyio_backend
    async with emulator(snapshots=daytona_snapshot, secrets=["model-key"]) as running:
        yield running
        assert running.unknown == []
        assert running.running() == []


@pytest.fixture(scope="module")
async def provider(daytona: Emulator) -> AsyncIterator[DaytonaProvider]:
    """Give the provider, open."""
    async with DaytonaProvider(**daytona.options) as opened:
        yield opened


@pytest.fixture
async def box(provider: DaytonaProvider) -> AsyncIterator[GuestSandbox]:
    """Give a sandbox of one test's own."""
    sandbox = await provider.create(SandboxSpec())
    try:
        yield sandbox
    finally:
        await sandbox.terminate()
