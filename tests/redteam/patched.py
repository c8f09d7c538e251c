"""Sandboxes of the provider ``local``, as they are, or with one defence taken out of a program inside."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from conformance.wrong_agents import Patch

from agenthost.link.client import GuestSandbox
from agenthost.providers.local.provider import LocalProvider
from agenthost.sandbox import Backend, Boot
from agenthost.spec import SandboxSpec

# Runners are started as any other program is.
STARTED_ANEW = Patch("guest", "guest/launcher.py", "return _archive_at(argv) is not None", "return False")


class PatchedLocal(LocalProvider):
    """The provider, with patches of what travels into its sandboxes."""

    def __init__(self, *patches: Patch) -> None:
        super().__init__()
        self._patches = patches

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Make a sandbox with the patched programs."""
        for patch in self._patches:
            boot = patch.apply(boot)
        return await super().make(spec, boot)


@asynccontextmanager
async def patched_box(*patches: Patch) -> AsyncGenerator[GuestSandbox]:
    """Give a sandbox; without patches its programs are as they are."""
    async with PatchedLocal(*patches) as provider:
        box = await provider.create(SandboxSpec())
        try:
            yield box
        finally:
            await box.terminate()
