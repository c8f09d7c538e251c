"""A guest that a program inside has taken over: it speaks the wire as it likes, to a host's real link."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
from wire.simulation.pair import hello

from agenthost.background import BackgroundTasks
from agenthost.link.client import GuestSandbox
from agenthost.link.layout import GuestLayout
from agenthost.link.session import Session
from agenthost.link.tokens import TokenMaker
from agenthost.sandbox import Capabilities, Carrier, SandboxInfo
from agenthost.wire.frames import Decoder, encode, encode_data
from agenthost.wire.settings import MIB
from agenthost.wire.tokens import CONTROL

LAYOUT = GuestLayout(
    workdir="/workspace",
    home="/root",
    spool_dir="/spool",
    boot_dir="/boot",
    python="python3",
    site_dirs=(),
    isolation="none",
    user_is_root=True,
)
Frames = Iterable[bytes]
Frame = dict[str, Any]


def answered(call: Frame, value: object, *, ok: bool = True) -> bytes:
    """Return the frame that answers a call."""
    return encode({"t": "ans", "i": call["i"], "ok": ok, "v": value})


def data(sid: str, offset: int, payload: bytes) -> bytes:
    """Return a data frame."""
    return encode_data({"t": "d", "s": sid, "o": offset}, payload, binary=True)


def end(sid: str, offset: int) -> bytes:
    """Return the frame that ends a stream."""
    return encode({"t": "end", "s": sid, "o": offset})


class HostileGuest:
    """A Backend, and the guest behind it.

    Args:
        on_call: Returns the frames that answer a call.
        on_stream: Returns the frames that follow a subscription to a stream.
        at_once: Frames that follow the handshake.
    """

    def __init__(
        self,
        on_call: Callable[[Frame], Frames] = lambda _call: (),
        on_stream: Callable[[str], Frames] = lambda _sid: (),
        *,
        at_once: Frames = (),
    ) -> None:
        self.on_call, self.on_stream, self.at_once = on_call, on_stream, at_once
        self.dialled = 0
        self.calls: list[str] = []

    async def boot(self) -> None:
        """It runs."""

    async def dial(self) -> Carrier:
        """Make a carrier to it."""
        self.dialled += 1
        return _Carrier(self)

    async def info(self) -> SandboxInfo:
        """Tell that it runs."""
        return SandboxInfo(id="hostile", name="hostile", provider="hostile", state="running")

    async def terminate(self) -> None:
        """There is nothing to end."""

    @asynccontextmanager
    async def sandbox(self, *, call_timeout: float = 60.0) -> AsyncGenerator[GuestSandbox]:
        """Yield it as a host sees it."""
        tokens = TokenMaker(b"secret", sandbox="hostile", nonce="nonce")
        session = Session(self, name="hostile", guest_key=None, call_timeout=call_timeout)
        session.link.grant("", CONTROL, tokens.control())
        sandbox = GuestSandbox(
            self,
            lambda: session,
            sandbox_id="hostile",
            name="hostile",
            provider="hostile",
            capabilities=Capabilities(isolation="none"),
            layout=LAYOUT,
            token=tokens,
        )
        async with BackgroundTasks() as tasks:
            tasks.start_soon(session.run)
            try:
                yield sandbox
            finally:
                session.close()


class _Carrier:
    """Answers each frame of the host at once. A payload that waits is not held twice."""

    binary = True

    def __init__(self, guest: HostileGuest) -> None:
        self._guest = guest
        self._decoder = Decoder(max_line=MIB, max_payload=MIB)
        self._out: list[Iterator[bytes]] = [iter([encode(hello())])]
        self._news = anyio.Event()
        self._closed = False

    async def send(self, data: bytes) -> None:
        """Take the host's frames."""
        for frame, _ in self._decoder.feed(data):
            self._out.append(iter(self._answers(frame)))
        self._news.set()

    def _answers(self, frame: Frame) -> Frames:
        if frame["t"] == "auth":
            granted = [[grant["agent"], grant["role"], 1, grant["n"]] for grant in frame["grants"]]
            yield encode({"t": "have", "link": 1, "granted": granted, "refused": [], "in": {}, "open": {}})
        elif frame["t"] == "have":
            yield from self._guest.at_once
        elif frame["t"] == "grant":
            granted = [[grant["agent"], grant["role"], 1, grant["n"]] for grant in frame["grants"]]
            yield encode({"t": "granted", "granted": granted, "refused": [], "in": {}})
        elif frame["t"] == "call":
            self._guest.calls.append(frame["m"])
            yield from self._guest.on_call(frame)
        elif frame["t"] == "sub":
            for sid, *_ in frame["subs"]:
                yield encode({"t": "subbed", "s": sid})
                yield from self._guest.on_stream(sid)
        elif frame["t"] == "stop":
            yield encode({"t": "stopped", "s": frame["s"]})

    async def receive(self) -> bytes:
        """Return the next frames, many at once as a real carrier does."""
        parts: list[bytes] = []
        size = 0
        await anyio.lowlevel.checkpoint()
        while size < 256 * 1024:
            frame = next(self._out[0], None) if self._out else None
            if frame is not None:
                parts.append(frame)
                size += len(frame)
            elif self._out:
                del self._out[0]
            elif parts or self._closed:
                break
            else:
                self._news = anyio.Event()
                await self._news.wait()
        return b"".join(parts)

    async def aclose(self) -> None:
        """Close."""
        self._closed = True
        self._news.set()
