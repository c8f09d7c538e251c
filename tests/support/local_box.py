"""A sandbox of the provider ``local`` for each test module: a suite's conftest imports the fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agenthost.link.client import GuestSandbox
from agenthost.providers.local.provider import LocalProvider
from agenthost.spec import SandboxSpec


@pytest.fixture(scope="module")
async def provider(anyio_backend: str) -> AsyncIterator[LocalProvider]:
    """Give the provider ``local``, open."""
    del anyio_backend
    async with LocalProvider() as opened:
        yield opened


@pytest.fixture(scope="module")
async def box(provider: LocalProvider) -> AsyncIterator[GuestSandbox]:
    """Give a sandbox that the tests of a module share: they leave no process and no file behind in it."""
    spec = SandboxSpec(env={"OF_THE_SANDBOX": "yes"}, provider_options={"tmp_mib": 4})
    sandbox = await provider.create(spec)
    try:
        yield sandbox
    finally:
        await sandbox.terminate()
