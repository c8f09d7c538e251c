"""Sandboxes that end with a block."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio

from agenthost.adapter.provider import GuestProvider
from agenthost.link.client import GuestSandbox
from agenthost.spec import SandboxSpec

ProviderT = TypeVar("ProviderT", bound=GuestProvider)


@asynccontextmanager
async def open_sandbox(
    make_provider: Callable[[], ProviderT], spec: SandboxSpec | None = None
) -> AsyncGenerator[tuple[ProviderT, GuestSandbox]]:
    """Open a provider, make a sandbox with it, and end the sandbox with the block."""
    async with make_provider() as provider:
        box = await provider.create(spec or SandboxSpec())
        try:
            yield provider, box
        finally:
            with anyio.CancelScope(shield=True):
                await box.terminate()
