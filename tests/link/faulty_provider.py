"""The provider ``local`` with carriers that can be cut, stalled and left half open."""

from __future__ import annotations

import random
from collections.abc import Callable

import anyio

from agenthost.providers.local.provider import LocalProvider
from agenthost.sandbox import Backend, Boot, Carrier, SandboxInfo
from agenthost.spec import Limits, SandboxSpec
from agenthost.wire.settings import WireSettings


class Faults:
    """What befalls the carriers. ``plan`` is asked, for each new one, after how many bytes it breaks."""

    def __init__(self) -> None:
        self.carriers: list[FaultyCarrier] = []
        self.plan: Callable[[], tuple[int | None, int | None]] = lambda: (None, None)
        self.refuse = False  # nobody can be dialled
        self.trouble: Exception | None = None  # what the provider raises to every question
        self.linger = False  # what the host has closed stays open at the guest's end
        self.lingering: list[Carrier] = []
        self.instead: Backend | None = None  # another machine answers
        self.dialled = 0

    def cut(self) -> None:
        """Break the carriers of now. The guest hears of it too."""
        for carrier in self.carriers:
            carrier.break_off()

    def stall(self) -> None:
        """From now on the carriers of now bring nothing but their end, and take nothing."""
        for carrier in self.carriers:
            carrier.stalled = True

    def cut_at_random(self, seed: int, *, most: int, directions: str = "up down") -> None:
        """Break each new carrier after up to ``most`` bytes of one direction."""
        generator = random.Random(seed)

        def plan() -> tuple[int | None, int | None]:
            size = generator.randrange(300, most)
            return (size, None) if generator.choice(directions.split()) == "up" else (None, size)

        self.plan = plan

    async def aclose(self) -> None:
        """Close what was left open."""
        for carrier in self.lingering:
            await carrier.aclose()


class FaultyCarrier:
    """A carrier over another one."""

    def __init__(self, inner: Carrier, faults: Faults) -> None:
        self.binary = inner.binary
        self.stalled = False
        self._inner = inner
        self._faults = faults
        self._broken = anyio.Event()
        self._left_up, self._left_down = faults.plan()

    def break_off(self) -> None:
        """Nothing passes any more."""
        self._broken.set()

    async def send(self, data: bytes) -> None:
        """Send, or the part of it that still gets through."""
        if self.stalled:
            await self._broken.wait()
        if self._broken.is_set():
            raise BrokenPipeError(32, "cut")
        if self._left_up is not None:
            data = data[: self._left_up]
            self._left_up -= len(data)
        await self._inner.send(data)
        if self._left_up == 0:
            self.break_off()
            raise BrokenPipeError(32, "cut")

    async def receive(self) -> bytes:
        """Receive, until it is cut."""
        data = b""
        async with anyio.create_task_group() as tasks:

            async def until_broken() -> None:
                await self._broken.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(until_broken)
            data = await self._inner.receive()
            while data and self.stalled:
                data = await self._inner.receive()
            tasks.cancel_scope.cancel()
        if self._broken.is_set():
            return b""
        if self._left_down is not None:
            data = data[: self._left_down]
            self._left_down -= len(data)
            if self._left_down == 0:
                self.break_off()
        return data

    async def aclose(self) -> None:
        """Close."""
        if self in self._faults.carriers:
            self._faults.carriers.remove(self)
        if self._faults.linger:
            self._faults.lingering.append(self._inner)
        else:
            await self._inner.aclose()


class FaultyBackend:
    """A backend whose carriers are faulty."""

    def __init__(self, inner: Backend, faults: Faults) -> None:
        self.inner = inner
        self._faults = faults

    async def boot(self) -> None:
        """As it is."""
        await self.inner.boot()

    async def dial(self) -> Carrier:
        """Make a faulty carrier."""
        self._faults.dialled += 1
        if self._faults.trouble is not None:
            raise self._faults.trouble
        if self._faults.refuse:
            raise ConnectionRefusedError(111, "refused by the test")
        carrier = FaultyCarrier(await (self._faults.instead or self.inner).dial(), self._faults)
        self._faults.carriers.append(carrier)
        return carrier

    async def info(self) -> SandboxInfo:
        """As it is, unless the provider is in trouble."""
        if self._faults.trouble is not None:
            raise self._faults.trouble
        return await self.inner.info()

    async def terminate(self) -> None:
        """As it is."""
        await self.inner.terminate()


class FaultyProvider(LocalProvider):
    """``local`` with faults."""

    def __init__(self, *, limits: Limits | None = None, wire: WireSettings | None = None) -> None:
        super().__init__(limits=limits)
        self.faults = Faults()
        if wire is not None:
            self.wire = wire

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Make a sandbox with faulty carriers."""
        return FaultyBackend(await super().make(spec, boot), self.faults)

    async def reach(self, sandbox_id: str) -> Backend:
        """Reach one with faulty carriers."""
        return FaultyBackend(await super().reach(sandbox_id), self.faults)

    async def close_clients(self) -> None:
        """Close what was left open, too."""
        await self.faults.aclose()
        await super().close_clients()
