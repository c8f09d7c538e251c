"""What a test holds of an emulator, whichever provider's it is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import anyio

from agenthost.testing.emulators.base.boxes import Box, Boxes
from agenthost.testing.emulators.base.clock import Clock
from agenthost.testing.emulators.base.faults import Faults
from agenthost.testing.emulators.base.machines import Machine
from agenthost.testing.emulators.base.rest import reply
from agenthost.testing.emulators.base.streams import Streams
from agenthost.testing.loopback import Exchange

B = TypeVar("B", bound=Box)


class Emulator(Generic[B]):
    """An emulator that runs.

    Attributes:
        options: What ``open_provider`` takes to use it.
        faults: What is to go wrong, and the calls that came.
        clock: Its time, which a test can move forward.
        boxes: Its sandboxes.
        streams: Streams of programs that are open.
    """

    options: Mapping[str, Any]
    boxes: Boxes[B]

    def __init__(self) -> None:
        self.faults = Faults()
        self.clock = Clock()
        self.streams = Streams()

    @property
    def calls(self) -> list[str]:
        """Every call that came."""
        return self.faults.calls

    @property
    def unknown(self) -> list[str]:
        """The calls that it does not know."""
        return self.faults.unknown

    def box(self, sandbox_id: str) -> B:
        """Return a sandbox by its id. KeyError: there is none, or not any more."""
        return self.boxes.all[sandbox_id]

    def running(self) -> list[str]:
        """Return the ids of the sandboxes that have not ended."""
        return [box.id for box in self.boxes.running()]

    def expire(self, sandbox_id: str) -> None:
        """Have a sandbox's time be over now."""
        self.box(sandbox_id).move_end(self.clock.now())

    async def ended(self, sandbox_id: str) -> None:
        """Return when a sandbox has ended."""
        box = self.boxes.all.get(sandbox_id)
        if box is not None:
            await box.ended.wait()

    async def machine(self, sandbox_id: str) -> Machine:
        """Return the machine behind a sandbox that runs."""
        found = self.box(sandbox_id).machine
        assert found is not None
        return found

    @abstractmethod
    async def lose(self, sandbox_id: str) -> None:
        """Have a sandbox be lost, as by a failure of its machine."""

    def cut(self) -> int:
        """Break every stream of a program off; the programs run on. Returns how many there were."""
        return self.streams.cut()

    def stall(self) -> None:
        """Let no more bytes pass to or from any program, with every connection open, until ``flow``."""
        self.streams.stall()

    def slow(self, bytes_per_second: float) -> None:
        """Let bytes pass at this rate only, until ``flow``."""
        self.streams.slow(bytes_per_second)

    def flow(self) -> None:
        """Let what was stalled or slow go on."""
        self.streams.flow()


class HttpEmulator(Emulator[B]):
    """An emulator whose calls are HTTP requests."""

    def __init__(self) -> None:
        super().__init__()
        self._working = 0
        self._done = anyio.Event()

    async def settled(self) -> None:
        """Return when every call to the control plane is done, also those whose clients have gone away."""
        while self._working:
            await self._done.wait()

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        counted = self.is_control(exchange)
        self._working += counted
        try:
            await self._handle(exchange)
        finally:
            self._working -= counted
            if counted:
                self._done.set()
                self._done = anyio.Event()

    @abstractmethod
    def is_control(self, exchange: Exchange) -> bool:
        """Return whether a request is a call to the control plane."""

    @abstractmethod
    async def route(self, exchange: Exchange, call: str) -> bool:
        """Answer one request; False: it is not known."""

    def refusal_body(self, status: int, message: str) -> object:
        """Return the body of a refusal, as this provider words it."""
        return {"code": status, "message": message}

    async def _handle(self, exchange: Exchange) -> None:
        call = f"{exchange.request.method} {urlsplit(exchange.request.target).path}"
        self.faults.calls.append(call)
        fault = await self.faults.strike(call)
        if fault is not None:
            if fault.drop:
                return
            if fault.after:
                await self.route(_Muted(exchange), call)
            if fault.status is not None:
                body = self.refusal_body(fault.http_status, fault.message)
                await reply(exchange, fault.http_status, body, fault.http_headers)
                return
            if fault.lose:
                exchange = _Muted(exchange)
        if not await self.route(exchange, call):
            self.faults.unknown.append(call)
            message = f"this emulator does not know the call {call}"
            await reply(exchange, 501, self.refusal_body(501, message))


class _Muted(Exchange):
    """Does what was asked for, and cuts the connection instead of answering."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange.request, exchange.incoming)

    async def reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Say nothing."""
