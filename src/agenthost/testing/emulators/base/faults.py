"""Faults of the calls of an emulator, as a test plans them."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from agenthost.testing.emulators.base.rates import Rate

# Names of gRPC statuses, and the HTTP statuses that mean the same.
_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong with calls.

    Attributes:
        call: What the calls begin with: ``POST /v2/sandboxes``, ``SandboxCreateV2``. Ids are part of them.
        status: The calls are refused with this HTTP status or name of a gRPC status, whichever wire the
            emulator has. None is a fault of another kind.
        message: The text of the refusal.
        headers: More headers of the refusal: ``retry-after``, ``should-retry``.
        retry_after: Seconds after which the refusal says to try again. None says nothing.
        after: With a ``status``: the calls are done, and refused nevertheless.
        lose: The calls are done, and their answer is lost.
        drop: The connection is cut before the calls are done.
        hold: The calls wait before they are done, until ``release``.
        delay: Seconds that the calls take longer.
        times: How many calls; ``math.inf`` is all until ``Faults.clear``.
        struck: Set when it has happened for the first time.
    """

    call: str
    status: int | str | None = None
    message: str = "this call fails on purpose"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    retry_after: float | None = None
    after: bool = False
    lose: bool = False
    drop: bool = False
    hold: bool = False
    delay: float = 0.0
    times: float = 1
    struck: anyio.Event = field(default_factory=anyio.Event)
    released: anyio.Event = field(default_factory=anyio.Event)

    def release(self) -> None:
        """Let what is held go on."""
        self.released.set()

    @property
    def http_status(self) -> int:
        """The status of the refusal over HTTP."""
        return _STATUSES[self.status] if isinstance(self.status, str) else self.status or 503

    @property
    def grpc_status(self) -> str:
        """The name of the refusal's status over gRPC."""
        if isinstance(self.status, str):
            return self.status
        return next((name for name, number in _STATUSES.items() if number == self.status), "UNAVAILABLE")

    @property
    def http_headers(self) -> dict[str, str]:
        """The headers of the refusal over HTTP."""
        again = {} if self.retry_after is None else {"retry-after": f"{self.retry_after:g}"}
        return {**again, **self.headers}


class Faults:
    """All that is to go wrong, in the order in which it was planned, and the calls that came.

    Attributes:
        calls: Every call that came.
        unknown: The calls that the emulator does not know, all of which it refuses.
        revoked: Whether the credential is refused.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.unknown: list[str] = []
        self.revoked = False
        self._planned: list[Fault] = []
        self._limits: dict[str, Rate] = {}

    def add(self, fault: Fault) -> Fault:
        """Plan a fault for the next calls that it is about."""
        self._planned.append(fault)
        return fault

    def refuse(
        self, call: str, status: int | str = 503, *, times: float = 1, retry_after: float | None = None
    ) -> Fault:
        """Refuse calls before anything is done. See Fault."""
        return self.add(Fault(call, status, times=times, retry_after=retry_after))

    def lose_answer(
        self,
        call: str,
        status: int | str | None = None,
        *,
        times: float = 1,
        retry_after: float | None = None,
    ) -> Fault:
        """Do what calls ask for, and lose the answer: with a status they are refused instead."""
        lost = status is None
        return self.add(Fault(call, status, after=not lost, lose=lost, times=times, retry_after=retry_after))

    def limit(self, call: str, at_once: int, each_second: float) -> None:
        """Refuse calls of exactly this name that come too often, and say when to try again. See Rate."""
        self._limits[call] = Rate(at_once, each_second)

    @asynccontextmanager
    async def hold(self, call: str) -> AsyncGenerator[Fault]:
        """Have calls wait until the fault is released or the block is left."""
        fault = self.add(Fault(call, hold=True, times=math.inf))
        try:
            yield fault
        finally:
            fault.release()
            if fault in self._planned:
                self._planned.remove(fault)

    def clear(self) -> None:
        """Let everything go well again; limits stay."""
        self._planned.clear()
        self.revoked = False

    async def strike(self, call: str) -> Fault | None:
        """Return what goes wrong with a call, when the call may go on."""
        fault = self._next(call)
        if fault is None and call in self._limits and (again := self._limits[call].take()) is not None:
            return Fault(call, 429, "this call comes too often", retry_after=again)
        if fault is not None:
            fault.struck.set()
            if fault.hold:
                await fault.released.wait()
            await anyio.sleep(fault.delay)
        return fault

    def _next(self, call: str) -> Fault | None:
        for fault in self._planned:
            if call.startswith(fault.call):
                fault.times -= 1
                if fault.times <= 0:
                    self._planned.remove(fault)
                return fault
        return None
