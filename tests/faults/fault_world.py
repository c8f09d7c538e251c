"""Where schedules of faults run: one sandbox for many agents, with short times."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from faults.conversations import ORPHAN
from support.hosting import KEY

from agenthost import Limits, SandboxSpec, open_provider
from agenthost.providers.local.provider import LocalProvider
from agenthost.sandbox import Sandbox
from agenthost.wire.settings import WireSettings

__all__ = ["AT_ONCE", "KEY", "LIMIT", "LIMITS", "running", "shared_sandbox", "short_provider"]

# Short, so that a silent carrier costs a second and not 23.
SHORT = WireSettings(ping_every=0.3, silence=0.7)
LIMIT = 60.0  # seconds until a schedule is taken to hang; the link's own budget
LIMITS = Limits(start=LIMIT, link_budget=LIMIT)
AT_ONCE = 8


def short_provider(limits: Limits = LIMITS) -> LocalProvider:
    """Return a provider whose links find out quickly that they are dead."""
    provider = LocalProvider(limits=limits)
    provider.wire = SHORT
    return provider


@asynccontextmanager
async def shared_sandbox() -> AsyncGenerator[Sandbox]:
    async with open_provider("local") as provider:
        sandbox = await provider.create(SandboxSpec())
        try:
            yield sandbox
        finally:
            await sandbox.terminate()


async def running(sandbox: Sandbox) -> list[str]:
    """Return the command lines of what runs in a sandbox, beside its guest and this question."""
    look = (
        "import glob\nfor f in glob.glob('/proc/[0-9]*/cmdline'): print(open(f).read().replace('\\0', ' '))"
    )
    lines = (await sandbox.exec(["python3", "-c", look])).stdout.decode().splitlines()
    return [line for line in lines if any(name in line for name in ("runner.pyz", "claude", ORPHAN))]
