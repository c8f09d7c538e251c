"""Sandboxes as they are, or with defences taken out of the programs inside, on ``local`` and ``docker``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import pytest
from conformance.wrong_agents import Patch

from agenthost.adapter.provider import GuestProvider
from agenthost.link.client import GuestSandbox
from agenthost.providers.docker.provider import DockerProvider
from agenthost.providers.local.provider import LocalProvider
from agenthost.sandbox import Backend, Boot
from agenthost.spec import SandboxSpec

Boxes = Callable[..., AbstractAsyncContextManager[GuestSandbox]]
"""Takes patches and gives a sandbox with them; without patches its programs are as they are."""

# Runners are started as any other program is.
STARTED_ANEW = Patch("guest", "guest/launcher.py", "return archive_at(argv) is not None", "return False")

ON_BOTH = ["local", pytest.param("docker", marks=pytest.mark.full)]


class PatchedLocal(LocalProvider):
    """The provider, with patches of what travels into its sandboxes."""

    patches: tuple[Patch, ...] = ()

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Make a sandbox with the patched programs."""
        for patch in self.patches:
            boot = patch.apply(boot)
        return await super().make(spec, boot)


class PatchedDocker(DockerProvider):
    """The provider, with patches of what travels into its sandboxes."""

    patches: tuple[Patch, ...] = ()

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Make a sandbox with the patched programs."""
        for patch in self.patches:
            boot = patch.apply(boot)
        return await super().make(spec, boot)


def boxes_of(request: pytest.FixtureRequest) -> Boxes:
    """Return what makes sandboxes for a fixture with the parameters ``ON_BOTH``."""
    if request.param == "docker":
        request.getfixturevalue("baked")
        host = request.getfixturevalue("docker_engine").host
        return partial(_box, lambda: PatchedDocker(host=host))
    return partial(_box, PatchedLocal)


@asynccontextmanager
async def _box(make: Callable[[], Any], *patches: Patch) -> AsyncGenerator[GuestSandbox]:
    opened = make()
    opened.patches = patches
    provider: GuestProvider = opened
    async with provider:
        box = await provider.create(SandboxSpec())
        try:
            yield box
        finally:
            await box.terminate()
