"""What every test of the vercel provider gets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agenthost.link.client import GuestSandbox
from agenthost.providers.vercel.provider import VercelProvider
from agenthost.spec import SandboxSpec
from agenthost.testing.emulators.vercel import Emulator, emulator

VARIABLES = (
    "VERCEL_OIDC_TOKEN",
    "VERCEL_OIDC_TOKEN_FILE",
    "VERCEL_TOKEN",
    "VERCEL_TEAM_ID",
    "VERCEL_PROJECT_ID",
)


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing of this machine's owner in the environment."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
async def vercel(anyio_backend: str, vercel_snapshot: dict[str, Path]) -> AsyncIterator[Emulator]:
    """Give an emulator, as hostile as Vercel, that has the snapshot."""
    del anyio_backend
    async with emulator(snapshots=vercel_snapshot, creates_at_once=1000) as running:
        yield running
        assert running.unknown == []


@pytest.fixture(scope="module")
async def provider(vercel: Emulator) -> AsyncIterator[VercelProvider]:
    """Give the provider, open."""
    async with VercelProvider(**vercel.options) as opened:
        yield opened


@pytest.fixture
async def box(provider: VercelProvider) -> AsyncIterator[GuestSandbox]:
    """Give a sandbox of one test's own."""
    sandbox = await provider.create(SandboxSpec())
    try:
        yield sandbox
    finally:
        await sandbox.terminate()
