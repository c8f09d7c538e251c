"""What is to go wrong, by the name of a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio


@dataclass(slots=True)
class Refusal:
    """A call is refused so often.

    Attributes:
        status: The name of a gRPC status: ``RESOURCE_EXHAUSTED``, ``INTERNAL`` ...
        times: How often, still.
        after: It is done first: only its answer is lost.
        retry_after: Seconds after which the client is told to ask again; None tells nothing.
    """

    status: str
    times: int
    after: bool = False
    retry_after: float | None = None


@dataclass(slots=True)
class Gate:
    """A call that waits.

    Attributes:
        reached: Set when one waits.
        open: Set to let all go on.
    """

    reached: anyio.Event = field(default_factory=anyio.Event)
    open: anyio.Event = field(default_factory=anyio.Event)


class Faults:
    """Plans faults and counts calls. Names are Modal's: ``SandboxCreateV2``, ``TaskExecStart`` ...

    Attributes:
        calls: How often each call has come.
        unknown: Calls that the emulator does not know, all of which it refuses.
        revoked: Whether the credential is refused.
        token_seconds: How long a token for a worker is good; who needs it for longer asks for another one.
    """

    def __init__(self, *, token_seconds: float = 1200.0) -> None:
        self.token_seconds = token_seconds
        self.calls: Counter[str] = Counter()
        self.unknown: list[str] = []
        self.revoked = False
        self._refusals: dict[str, list[Refusal]] = {}
        self._gates: dict[str, Gate] = {}

    def refuse(
        self, call: str, status: str = "UNAVAILABLE", *, times: int = 1, retry_after: float | None = None
    ) -> None:
        """Refuse a call, as often as told, before anything is done."""
        self._refusals.setdefault(call, []).append(Refusal(status, times, retry_after=retry_after))

    def lose_answer(
        self, call: str, status: str = "UNAVAILABLE", *, times: int = 1, retry_after: float | None = None
    ) -> None:
        """Do what a call asks for and lose the answer."""
        refusal = Refusal(status, times, after=True, retry_after=retry_after)
        self._refusals.setdefault(call, []).append(refusal)

    @asynccontextmanager
    async def hold(self, call: str) -> AsyncGenerator[Gate]:
        """Have a call wait until the gate is opened or the block is left."""
        gate = self._gates[call] = Gate()
        try:
            yield gate
        finally:
            gate.open.set()
            self._gates.pop(call, None)

    def clear(self) -> None:
        """Have nothing go wrong any more."""
        self._refusals.clear()
        self.revoked = False

    def take(self, call: str, *, after: bool) -> Refusal | None:
        """Return what is to befall this one."""
        for refusal in self._refusals.get(call, ()):
            if refusal.times > 0 and refusal.after is after:
                refusal.times -= 1
                return refusal
        return None

    async def wait(self, call: str) -> None:
        """Wait at a gate, if there is one."""
        gate = self._gates.get(call)
        if gate is not None:
            gate.reached.set()
            await gate.open.wait()
