"""What E2B knows of a sandbox, and what it does with it as a whole."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import anyio

from agenthost.errors import AgentHostError
from agenthost.testing.emulators.base.boxes import Box
from agenthost.testing.emulators.base.clock import Clock
from agenthost.testing.emulators.base.machines import Machine
from agenthost.testing.emulators.e2b.programs import Programs

HOME = "/home/user"
WORKDIR = "/workspace"
T = TypeVar("T")


def _set_event() -> anyio.Event:
    event = anyio.Event()
    event.set()
    return event


@dataclass(slots=True, kw_only=True)
class E2BBox(Box):
    """One sandbox.

    Attributes:
        site: What its template has brought to /opt/agenthost/site.
        token: What its daemon asks for.
        traffic_token: What its other ports ask for, where they are not public.
        on_timeout: What happens at its end.
        goes_on: Not set while it stands still for a snapshot.
    """

    clock: Clock
    machine: Machine  # pyright: ignore[reportIncompatibleVariableOverride]  # it has one from the first moment
    template: str
    alias: str
    cpu: int
    memory_mib: int
    programs: Programs
    site: Path | None
    metadata: dict[str, str]
    env: dict[str, str]
    network: dict[str, Any]
    allow_internet_access: bool | None
    on_timeout: Literal["kill", "pause"]
    auto_resume: bool
    goes_on: anyio.Event = field(default_factory=_set_event, repr=False)
    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    traffic_token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    @property
    def is_public(self) -> bool:
        """Whether everybody may reach its ports."""
        return bool(self.network.get("allowPublicTraffic", True))

    def set_end(self, seconds: float) -> None:
        """Let it end so many seconds from now."""
        self.move_end(self.clock.now() + seconds)

    async def pause(self, *, keeps_memory: bool = True) -> None:
        """Let every program stand still, or end it, and cut every connection: its end is now."""
        async with self.turning:
            self.state = "paused"
            self.programs.disconnect()
            await self.signal_all("STOP" if keeps_memory else "KILL")
            self.set_end(0)

    async def resume(self, seconds: float) -> None:
        """Let them go on, for so long. Its start is now."""
        async with self.turning:
            self._run_on(seconds)
            await self.signal_all("CONT")

    async def reboot(self, seconds: float) -> None:
        """Start it anew from its disk, for so long: no program is left."""
        async with self.turning:
            self.programs.disconnect()
            await self.signal_all("KILL")
            self._run_on(seconds)

    async def stand_still_for(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of work, while which it stands still, is in no list and keeps its end."""
        async with self.turning:
            self.state, self.goes_on = "snapshotting", anyio.Event()
            self.programs.disconnect()
            try:
                await self.signal_all("STOP")
                return await work()
            finally:
                with anyio.CancelScope(shield=True), suppress(AgentHostError):  # it may have ended
                    await self.signal_all("CONT")
                self.goes_on.set()
                self.state = "running"

    def _run_on(self, seconds: float) -> None:
        self.state = "running"
        self.started_at = self.clock.now()
        self.set_end(seconds)
