"""A program of the sandbox that has taken the place of the guest's socket, and what it does to its hosts."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import anyio

from agenthost.link.carriers.socket import SocketCarrier, connect_unix
from agenthost.wire.frames import encode

Alter = Callable[[bytes], bytes]
WRONG_SEAL = b"=" + b"0" * 32 + b"\n"


def unaltered(data: bytes) -> bytes:
    """Return what came."""
    return data


class Connection:
    """One end of a connection, also line by line. Leaving its block closes it."""

    def __init__(self, carrier: SocketCarrier) -> None:
        self._carrier = carrier
        self._rest = b""

    async def send(self, data: bytes) -> None:
        """Send all; nothing where the other end has closed."""
        with suppress(OSError):
            await self._carrier.send(data)

    async def receive(self) -> bytes:
        """Return what has come, ``b""`` at the end."""
        data, self._rest = self._rest, b""
        return data or await self._carrier.receive()

    async def read_line(self) -> bytes:
        """Return a line with its newline, ``b""`` at the end."""
        line = b""
        while b"\n" not in line:
            data = await self.receive()
            if not data:
                return b""
            line += data
        end = line.index(b"\n") + 1
        self._rest = line[end:]
        return line[:end]

    async def speak(self, said: bytes, *frames: dict[str, Any]) -> list[dict[str, Any]]:
        """Say this to a guest; return its frames up to the answer of a call, or until it closes."""
        found: list[dict[str, Any]] = []
        # The seal behind them is a guess: only a host can make one.
        await self.send(said + b"".join(encode({"z": 1, **frame}) for frame in frames) + WRONG_SEAL)
        while line := await self.read_line():
            if line.startswith(b"{"):
                found.append(json.loads(line))
                if found[-1]["t"] == "ans":
                    break
        return found

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._carrier.aclose()


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
        self._hidden = hidden

    async def connect(self) -> Connection:
        """Connect to the guest itself."""
        return Connection(await connect_unix(str(self._hidden)))

    async def greeting(self) -> bytes:
        """Return the guest's own first line."""
        async with await self.connect() as guest:
            return await guest.read_line()

    async def relay(self, host: Connection) -> None:
        """Serve one connection of a host."""
        number = len(self.heard)
        self.heard.append(b"")
        async with await self.connect() as guest, anyio.create_task_group() as tasks:

            async def to_host() -> None:
                while data := await guest.receive():
                    await host.send(self.down(data))
                tasks.cancel_scope.cancel()

            tasks.start_soon(to_host)
            while data := await host.receive():
                self.heard[number] += data
                if self.withholds:
                    break
                await guest.send(self.up(data))
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def taken_socket(
    directory: Path, serve: Callable[[Relay, Connection], Awaitable[None]] = Relay.relay
) -> AsyncGenerator[Relay]:
    """Take the place of the guest's socket in a directory; leaving the block gives it back."""
    path, hidden = directory / "guest.sock", directory / "hidden.sock"
    path.rename(hidden)
    relay = Relay(hidden)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.setblocking(False)
        async with anyio.create_task_group() as tasks:

            async def handle(host: Connection) -> None:
                async with host:
                    await serve(relay, host)

            async def listen() -> None:
                while True:
                    await anyio.wait_readable(listener)
                    raw, _ = listener.accept()
                    raw.setblocking(False)
                    tasks.start_soon(handle, Connection(SocketCarrier(raw)))

            tasks.start_soon(listen)
            try:
                yield relay
            finally:
                tasks.cancel_scope.cancel()
                hidden.rename(path)
