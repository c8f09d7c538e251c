"""A program in a sandbox with its streams: followed to its end, or the carrier over a ``dial`` program."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import anyio

from agenthost.errors import AgentHostError, ProviderError

# A carrier is renewed after so much: what a vendor keeps of a program's output is not known, and load
# balancers end streams that live long.
RENEW_BYTES = 64 * 1024 * 1024
RENEW_SECONDS = 3600.0
_LOOKING = 3.0  # seconds for the reason why a program ended at once
_KEPT = 2000  # bytes of what a program printed, for an error
_NO_GUEST = b"the guest does not answer"  # printed by the ``dial`` program


class Running(Protocol):
    """A program in a sandbox, with its streams.

    ``send`` and ``receive`` may run at once, each in one task at a time.
    """

    @property
    def binary(self) -> bool:
        """Whether every byte value passes. Otherwise only lines of ASCII do."""
        ...

    @property
    def stderr(self) -> bytes:
        """The last 2,000 bytes or more that were printed on stderr. Complete when ``wait`` returned."""
        ...

    async def send(self, data: bytes) -> None:
        """Write all bytes to stdin; wait while too many are unsent.

        Raises:
            OSError, or an anyio resource error: The program has ended.
        """
        ...

    async def receive(self) -> bytes:
        """Return the next bytes of stdout, ``b""`` at the end. OSError when the vendor lost the output."""
        ...

    async def wait(self) -> int:
        """Return the exit code. Raises ProviderError when the vendor does not know the code."""
        ...

    async def aclose(self) -> None:
        """End the program where the vendor can, and all tasks and streams for it. Bounded. Idempotent."""
        ...


def no_report(line: str) -> None:
    """Take a line that nothing shows."""


async def follow(running: Running, doing: str, report: Callable[[str], object] = no_report) -> None:
    """Follow a program that has all its input until it has ended; close it.

    Args:
        running: The program.
        doing: What it does, in words that begin a message.
        report: Called with each whole line that is printed on stdout.

    Raises:
        ProviderError: It failed; the message ends with what it printed last.
    """
    last, rest = b"", b""
    try:
        while data := await running.receive():
            *lines, rest = (rest + data).split(b"\n")
            last = (last + data)[-_KEPT:]
            for line in lines:
                report(line.decode(errors="replace"))
        code = await running.wait()
    finally:
        await running.aclose()
    if code != 0:
        printed = (last + running.stderr).decode(errors="replace").strip()
        raise ProviderError(f"{doing}: exit code {code}:\n{printed}")


class DialCarrier:
    """The stdin and stdout of a ``dial`` program.

    Args:
        running: The program.
        renew_bytes: Bytes received after which the carrier ends, so that another takes over.
        renew_seconds: Likewise, the age of the carrier.

    Attributes:
        refused: Whether the program found no guest in the sandbox. Known when ``receive`` returned ``b""``.
    """

    def __init__(
        self, running: Running, *, renew_bytes: int = RENEW_BYTES, renew_seconds: float = RENEW_SECONDS
    ) -> None:
        self.refused = False
        self._running = running
        self._left = renew_bytes
        self._renew_at = anyio.current_time() + renew_seconds
        self._is_new = True

    @property
    def binary(self) -> bool:
        """Whether every byte value passes."""
        return self._running.binary

    async def send(self, data: bytes) -> None:
        """Send all bytes."""
        await self._running.send(data)

    async def receive(self) -> bytes:
        """Return the next bytes; ``b""`` at the end, and when another carrier has to take over."""
        if self._left <= 0:
            return b""
        with anyio.move_on_at(self._renew_at):
            data = await self._running.receive()
            self._left -= len(data)
            if not data and self._is_new:
                await self._look_why()
            self._is_new = False
            return data
        return b""

    async def aclose(self) -> None:
        """End the program. Idempotent."""
        await self._running.aclose()

    async def _look_why(self) -> None:
        with anyio.move_on_after(_LOOKING), suppress(AgentHostError, OSError):
            await self._running.wait()
            self.refused = _NO_GUEST in self._running.stderr
