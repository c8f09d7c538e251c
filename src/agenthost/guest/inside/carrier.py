"""One incoming connection: bytes between the socket and the wire's state machine."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

from agenthost.wire.frames import ProtocolError
from agenthost.wire.guest import GuestHub

_BUDGET = 512 * 1024  # bytes handed to the socket at once


class CarrierProtocol(asyncio.Protocol):
    """Feeds what arrives to the state machine, and sends what it has in one burst a round."""

    def __init__(self, hub: GuestHub, carriers: set[CarrierProtocol]) -> None:
        self._loop = asyncio.get_running_loop()
        self._carriers = carriers
        self._state = hub.open_carrier(now=time.monotonic())
        self._state.on_close = self._wake
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._scheduled = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A host has come: greet it."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_BUDGET)
        self._carriers.add(self)
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Bytes from the host."""
        known = self._state.link
        try:
            self._state.receive(data, time.monotonic())
        except ProtocolError as exc:
            sys.stderr.write(f"a carrier was closed: {exc}\n")
            self._close()
            return
        link = self._state.link
        if link is not None and known is None and link.carrier is self._state:
            link.wake = self._wake
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The carrier has ended; the link lives on."""
        self._transport = None
        self._carriers.discard(self)
        self._state.lost()

    def pause_writing(self) -> None:
        """The socket is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """The socket has room."""
        self._paused = False
        self._wake()

    def tick(self, now: float) -> None:
        """Let time pass."""
        self._state.tick(now)

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        while self._transport is not None and not self._paused:
            data = self._state.take(_BUDGET, time.monotonic())
            if not data:
                break
            self._transport.write(data)
        if self._state.closing:
            self._close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
