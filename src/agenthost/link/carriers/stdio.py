"""A program's stdin and stdout as a carrier: one spawned ``dial`` for the whole link."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import anyio

from agenthost.background import HeldBlock
from agenthost.sandbox import Process

_CLOSING = 5.0  # seconds that ending the program may take


class ProcessCarrier:
    """Joins any Process to the link. Use ``open_process_carrier``."""

    def __init__(self, process: Process, block: HeldBlock[Process], *, binary: bool) -> None:
        self.binary = binary
        self._process = process
        self._block = block
        self._closed = False

    async def send(self, data: bytes) -> None:
        """Send all bytes. BrokenPipeError when the program has ended."""
        await self._process.send_stdin(data)

    async def receive(self) -> bytes:
        """Return the next bytes, ``b""`` at the end."""
        return await self._process.receive_stdout()

    async def aclose(self) -> None:
        """End the program."""
        if not self._closed:
            self._closed = True
            with anyio.move_on_after(_CLOSING, shield=True):
                await self._block.aclose()


async def open_process_carrier(
    context: AbstractAsyncContextManager[Process], *, binary: bool = True
) -> ProcessCarrier:
    """Start the ``dial`` program that ``context`` (from ``Sandbox.spawn``) describes.

    The link opens a carrier in one cancel scope and closes it in another. ``context`` may hold a task group.
    """
    block = HeldBlock(context)
    return ProcessCarrier(await block.open(), block, binary=binary)
