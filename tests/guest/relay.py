"""A program of the sandbox that has taken the place of the guest's socket, and what it does to its hosts."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from agenthost.wire.frames import encode

Alter = Callable[[bytes], bytes]


def unaltered(data: bytes) -> bytes:
    """Return what came."""
    return data


class Relay:
    """Listens in the guest's place, and speaks to the guest at the socket that it has renamed.

    Attributes:
        up: What happens to bytes on their way to the guest; ``down`` likewise to the host.
        heard: What hosts have sent, by connection.
        withholds: Nothing of a host reaches the guest; its connection is closed after the first bytes.
    """

    def __init__(self, hidden: Path) -> None:
        self.up: Alter = unaltered
        self.down: Alter = unaltered
        self.heard: list[bytes] = []
        self.withholds = False
        self.has_heard = anyio.Event()
        self._hidden = hidden

    async def connect(self) -> anyio.abc.ByteStream:
        """Connect to the guest itself."""
        return await anyio.connect_unix(self._hidden)

    async def greeting(self) -> bytes:
        """Return the guest's own first line."""
        async with await self.connect() as guest:
            return await read_line(guest)

    async def relay(self, host: anyio.abc.ByteStream) -> None:
        """Serve one connection of a host."""
        number = len(self.heard)
        self.heard.append(b"")
        async with host, await self.connect() as guest, anyio.create_task_group() as tasks:

            async def to_host() -> None:
                with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                    while True:
                        await host.send(self.down(await guest.receive(1 << 20)))
                tasks.cancel_scope.cancel()

            tasks.start_soon(to_host)
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                while True:
                    data = await host.receive(1 << 20)
                    self.heard[number] += data
                    self.has_heard.set()
                    if self.withholds:
                        break
                    await guest.send(self.up(data))
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def taken_socket(
    directory: Path, serve: Callable[[Relay, anyio.abc.ByteStream], Any] = Relay.relay
) -> AsyncGenerator[Relay]:
    """Take the place of the guest's socket in a directory; leaving the block gives it back."""
    socket, hidden = directory / "guest.sock", directory / "hidden.sock"
    socket.rename(hidden)
    relay = Relay(hidden)
    listener = await anyio.create_unix_listener(socket)
    async with anyio.create_task_group() as tasks:

        async def handle(host: anyio.abc.ByteStream) -> None:
            await serve(relay, host)

        tasks.start_soon(listener.serve, handle)
        try:
            yield relay
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await listener.aclose()
            hidden.rename(socket)


async def read_line(stream: anyio.abc.ByteStream) -> bytes:
    """Return one line, byte by byte, with its newline; what there is of it at the end."""
    line = b""
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while not line.endswith(b"\n"):
            line += await stream.receive(1)
    return line


async def speak(guest: anyio.abc.ByteStream, said: bytes, *frames: dict[str, Any]) -> list[dict[str, Any]]:
    """Say this to a guest; return its frames up to the answer of a call, or until it closes."""
    found: list[dict[str, Any]] = []
    with suppress(anyio.BrokenResourceError):
        await guest.send(said + b"".join(encode({"z": 1, **frame}) for frame in frames))
    while line := await read_line(guest):
        if line.startswith(b"{"):
            found.append(json.loads(line))
            if found[-1]["t"] == "ans":
                break
    return found
