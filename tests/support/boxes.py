"""Sandboxes of tests, and what an adapter's link must bear: the same for each provider."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from support.waiting import until_true

from agenthost.adapter.provider import GuestProvider
from agenthost.link.client import GuestSandbox
from agenthost.spec import SandboxSpec
from agenthost.testing.emulators.base.emulator import Emulator

_COUNT = "for i in $(seq 2000); do echo $i; done; read -r go; seq 2001 4000"


@asynccontextmanager
async def own_box(provider: GuestProvider, spec: SandboxSpec | None = None) -> AsyncGenerator[GuestSandbox]:
    """Make a sandbox, and end it with the block."""
    sandbox = await provider.create(spec or SandboxSpec())
    try:
        yield sandbox
    finally:
        await sandbox.terminate()


async def count_through_cuts(
    box: GuestSandbox, emulator: Emulator[Any], started: Callable[[], int], *, within: float
) -> list[bytes]:
    """Return what a program prints that counts to 4,000, while its link is cut and stalls.

    Args:
        box: Where it runs.
        emulator: What the link goes through.
        started: Returns how many programs of links were started so far.
        within: Seconds after which the test hangs.
    """
    with anyio.fail_after(within):
        async with box.spawn(["sh", "-c", _COUNT]) as process:
            seen = b""
            while len(seen.split()) < 1000:
                seen += await process.receive_stdout()
            before = started()
            emulator.cut()
            await until_true(lambda: started() > before)
            emulator.stall()
            await process.send_stdin(b"go\n")  # it is on its way to nowhere
            emulator.cut()
            emulator.flow()
            while data := await process.receive_stdout():
                seen += data
            assert await process.wait() == 0
    return seen.split()


COUNTED = [b"%d" % number for number in range(1, 4001)]


async def send_through_a_stall(
    box: GuestSandbox, emulator: Emulator[Any], started: Callable[[], int], *, within: float
) -> bytes:
    """Return what ``cat`` prints of ``through``, sent over a link that has stalled.

    The arguments are those of ``count_through_cuts``.
    """
    try:
        with anyio.fail_after(within):
            async with box.spawn(["cat"]) as process:
                before = started()
                emulator.stall()
                await process.send_stdin(b"through")
                await until_true(lambda: started() > before)
                emulator.flow()
                return await process.receive_stdout()
    finally:
        emulator.flow()
