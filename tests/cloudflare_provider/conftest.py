"""What every test of the cloudflare provider gets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agenthost.link.client import GuestSandbox
from agenthost.providers.cloudflare.provider import CloudflareProvider
from agenthost.spec import SandboxSpec
from agenthost.testing.emulators.cloudflare import Emulator, emulator


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing of this machine's owner in the environment."""
    for name in ("CLOUDFLARE_SANDBOX_WORKER_URL", "CLOUDFLARE_SANDBOX_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
async def cloudflare(anyio_backend: str) -> AsyncIterator[Emulator]:
    """Give an emulator, as hostile as Cloudflare. Its image has no SDK."""
    del anyio_backend
    async with emulator() as running:
        yield running
        assert running.unknown == []


@pytest.fixture(scope="module")
async def provider(cloudflare: Emulator) -> AsyncIterator[CloudflareProvider]:
    """Give the provider, open."""
    async with CloudflareProvider(**cloudflare.options) as opened:
        yield opened


@pytest.fixture
async def box(provider: CloudflareProvider) -> AsyncIterator[GuestSandbox]:
    """Give a sandbox of one test's own."""
    sandbox = await provider.create(SandboxSpec())
    try:
        yield sandbox
    finally:
        await sandbox.terminate()
