"""A bad network on purpose: carriers that are cut, stall, dribble, stay half open or outlive their end.

    faults = LinkFaults.seeded(7)
    async with faults, faults.around(LocalProvider()) as provider, HostedAgent(provider=provider) as agent:
        ...  # whatever happens to the link, each message arrives once and in order
    print(faults.struck)

The wire's own times are long: 23 s of silence end a carrier. A test sets ``provider.wire`` to shorter ones.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast

import anyio
import anyio.lowlevel

from agenthost.adapter.provider import GuestProvider
from agenthost.sandbox import Backend, Carrier

Kind = Literal["cut", "stall", "half-open", "deaf", "slow", "double"]
Direction = Literal["up", "down"]

KINDS: tuple[Kind, ...] = ("cut", "stall", "half-open", "deaf", "slow", "double")
_DROP = 97  # bytes at a time that a slow carrier takes and brings
_REFUSALS = 2  # dials in a row that a seeded schedule refuses, at most
_CARRIERS = 3  # carriers that it spoils, at most
_FARTHEST = 300_000  # bytes that pass before it strikes, at most; the logarithm of this is uniform

P = TypeVar("P", bound=GuestProvider)


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls one carrier.

    Attributes:
        kind: ``cut``: both ends hear that it ended. ``stall``: nothing passes and nobody hears of it.
            ``half-open``: nothing arrives, what is sent disappears. ``deaf``: what is sent disappears, what
            comes arrives. ``slow``: everything passes, a few bytes at a time. ``double``: this end hears
            that it ended, the other does not; what was under way arrives when there is a second one.
        direction: Whose bytes are counted: ``up`` is from the host to the guest.
        after: How many bytes pass before it strikes.
        lingers: The guest does not hear of the carrier's end before the faults are over.
        refused: How many dials after it are refused.
    """

    kind: Kind
    direction: Direction = "down"
    after: int = 0
    lingers: bool = False
    refused: int = 0


def seeded_plan(seed: int, *, most: int = _CARRIERS) -> list[Fault | None]:
    """Return the faults of LinkFaults.seeded."""
    chance = random.Random(seed)

    def fault() -> Fault | None:
        if chance.random() < 0.1:
            return None
        return Fault(
            kind=chance.choice(KINDS),
            direction=chance.choice(("up", "down")),
            after=round(math.exp(chance.uniform(0, math.log(_FARTHEST)))),
            lingers=chance.random() < 0.3,
            refused=chance.choice((0, 0, 1, _REFUSALS)),
        )

    return [fault() for _ in range(chance.randint(1, most))]


class LinkFaults:
    """Faults for the carriers of one provider, one after the other; then carriers are as they should be.

    Use it as ``async with``, around the provider: leaving closes what was left open on purpose.

    Attributes:
        struck: What has struck so far.
        dialled: How many carriers were asked for.
    """

    def __init__(self, plan: Iterable[Fault | None] = ()) -> None:
        """Make faults: the n-th carrier gets the n-th of ``plan``, None is a good one."""
        self.struck: list[Fault] = []
        self.dialled = 0
        self._plan: Iterator[Fault | None] = iter(plan)
        self._refusals = 0
        self._isolated = False
        self._carriers: list[_Carrier] = []
        self._lingering: list[Carrier] = []
        self._late: list[tuple[Carrier, bytes]] = []

    @classmethod
    def seeded(cls, seed: int, *, most: int = _CARRIERS) -> Self:
        """Make up to ``most`` faults that the seed chooses: the same ones for the same seed."""
        return cls(seeded_plan(seed, most=most))

    def add(self, *faults: Fault | None) -> None:
        """Plan more. The first one is for the carrier of now, if it is still good and there is one."""
        self._plan = iter([*self._plan, *faults])
        if self._carriers and self._carriers[-1].is_good:
            self._carriers[-1].plan(next(self._plan, None))

    def around(self, provider: P) -> P:
        """Spoil the carriers of every sandbox that this provider makes or finds; returns the provider."""
        make, reach = provider.make, provider.reach

        async def faulty_make(*args: Any, **options: Any) -> Backend:
            return self.wrap(await make(*args, **options))

        async def faulty_reach(sandbox_id: str) -> Backend:
            return self.wrap(await reach(sandbox_id))

        vars(provider).update(make=faulty_make, reach=faulty_reach)
        return provider

    def wrap(self, backend: Backend) -> Backend:
        """Spoil the carriers of one backend."""
        return cast("Backend", _FaultyBackend(backend, self))  # has the rest by delegation

    def strike(self, kind: Kind = "cut", *, lingers: bool = False, refused: int = 0) -> None:
        """Have it happen to every carrier of now."""
        for carrier in list(self._carriers):
            carrier.befall(Fault(kind, lingers=lingers, refused=refused))

    def isolate(self, kind: Kind = "cut", *, lingers: bool = False) -> None:
        """Break every carrier of now, and refuse new ones until ``heal``: to the guest this host has died."""
        self._isolated = True
        self.strike(kind, lingers=lingers)

    def heal(self) -> None:
        """Let carriers be made again."""
        self._isolated = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            for carrier in self._lingering:
                await carrier.aclose()

    # ---- for the carriers

    async def dial(self, inner: Backend) -> Carrier:
        """Make a carrier, or refuse."""
        self.dialled += 1
        if self._isolated or self._refusals:
            self._refusals = max(0, self._refusals - 1)
            await anyio.lowlevel.checkpoint()
            raise ConnectionRefusedError(111, "refused on purpose")
        carrier = _Carrier(await inner.dial(), self, next(self._plan, None))
        self._carriers.append(carrier)
        while self._late:
            old, data = self._late.pop()
            with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                await old.send(data)
        return carrier

    def note(self, fault: Fault) -> None:
        """A fault has struck."""
        self.struck.append(fault)
        self._refusals = fault.refused

    def delay(self, inner: Carrier, data: bytes) -> None:
        """Keep bytes that arrive when the next carrier is made."""
        self._late.append((inner, data))

    async def gone(self, carrier: _Carrier, inner: Carrier, *, lingers: bool) -> None:
        """A carrier was closed by this end."""
        if carrier in self._carriers:
            self._carriers.remove(carrier)
            if lingers:
                self._lingering.append(inner)
                return
        if inner not in self._lingering:
            await inner.aclose()


class _Carrier:
    """A carrier over another one, which a fault strikes once."""

    def __init__(self, inner: Carrier, faults: LinkFaults, fault: Fault | None) -> None:
        self.binary = inner.binary
        self._inner = inner
        self._faults = faults
        self._fault: Fault | None = None
        self._left: dict[Direction, int] = {}
        self._struck: Fault | None = None
        self._rest = b""  # received, for a slow reader
        self._receiving = anyio.CancelScope()
        self._sending = anyio.CancelScope()
        self.plan(fault)

    @property
    def is_good(self) -> bool:
        """Whether nothing has befallen it, and nothing will."""
        return self._struck is None and self._fault is None

    def plan(self, fault: Fault | None) -> None:
        """Have a fault strike when that many more bytes have passed."""
        self._fault = fault
        if fault is not None:
            self._left = {fault.direction: fault.after}

    @property
    def _kind(self) -> Kind | None:
        return None if self._struck is None else self._struck.kind

    def befall(self, fault: Fault) -> None:
        """The fault strikes now."""
        if self._kind in (None, "slow"):
            self._struck = fault
            self._faults.note(fault)
            if fault.kind not in ("slow", "deaf"):
                self._receiving.cancel()
            if fault.kind == "cut":
                self._sending.cancel()

    def _passing(self, direction: Direction, data: bytes) -> bytes:
        """Return what of this still passes; the rest meets the fault."""
        if self._fault is None or direction not in self._left or self._struck is not None:
            return data
        passing = data[: self._left[direction]]
        self._left[direction] -= len(passing)
        if not self._left[direction]:
            self.befall(self._fault)
        return passing

    async def send(self, data: bytes) -> None:
        """Send, or the part of it that still gets through."""
        if self._struck is None:
            passing = self._passing("up", data)
            # What still passes does so although the rest strikes, as on a real wire.
            with anyio.CancelScope() as self._sending:
                await self._inner.send(passing)
            data = data[len(passing) :]
        match self._kind:
            case None:
                return
            case "cut":
                raise BrokenPipeError(32, "cut on purpose")
            case "double":
                self._faults.delay(self._inner, data)
                raise BrokenPipeError(32, "cut on purpose")
            case "stall":
                await anyio.sleep_forever()
            case "half-open" | "deaf":
                await anyio.lowlevel.checkpoint()
            case "slow":
                for start in range(0, len(data), _DROP):
                    await self._inner.send(data[start : start + _DROP])

    async def receive(self) -> bytes:
        """Receive, until it is struck."""
        if not self._rest and self._kind in (None, "slow", "deaf"):
            with anyio.CancelScope() as self._receiving:
                self._rest = await self._inner.receive()
                passing = self._passing("down", self._rest)
                if self._kind not in ("slow", "deaf"):  # those bring all that comes
                    self._rest = passing
        match self._kind:
            case "cut" | "double":
                # What had arrived before is still read.
                data, self._rest = self._rest, b""
            case "slow":
                await anyio.lowlevel.checkpoint()
                data, self._rest = self._rest[:_DROP], self._rest[_DROP:]
            case "stall" | "half-open" if not self._rest:
                await anyio.sleep_forever()
                raise AssertionError("not reached")
            case _:
                data, self._rest = self._rest, b""
        return data

    async def aclose(self) -> None:
        """Close, or leave the guest in the belief that it is open."""
        lingers = self._struck is not None and (self._struck.lingers or self._struck.kind == "double")
        await self._faults.gone(self, self._inner, lingers=lingers)


class _FaultyBackend:
    """A backend whose carriers meet faults. All else, optional protocols too, is as it was."""

    def __init__(self, inner: Backend, faults: LinkFaults) -> None:
        self._inner = inner
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def dial(self) -> Carrier:
        return await self._faults.dial(self._inner)
