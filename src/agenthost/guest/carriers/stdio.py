"""A program's stdin and stdout as a carrier: one spawned ``dial`` for the whole link."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import anyio

from agenthost.sandbox import Process

_CLOSING = 5.0  # seconds that ending the program may take


class ProcessCarrier:
    """Joins any Process to the link. Use ``open_process_carrier``."""

    def __init__(
        self, process: Process, context: AbstractAsyncContextManager[Process], *, binary: bool
    ) -> None:
        self.binary = binary
        self._process = process
        self._context = context
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
                await self._context.__aexit__(None, None, None)


async def open_process_carrier(
    context: AbstractAsyncContextManager[Process], *, binary: bool = True
) -> ProcessCarrier:
    """Start the ``dial`` program that ``context`` (from ``Sandbox.spawn``) describes."""
    return ProcessCarrier(await context.__aenter__(), context, binary=binary)
