"""The sandboxes of the emulator: their clock, their state, and what they are reached with."""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio

from agenthost.background import BackgroundTasks
from agenthost.errors import AgentHostError
from agenthost.testing.emulators.e2b.programs import Programs
from agenthost.testing.emulators.machines import Machine

_log = logging.getLogger("agenthost.testing.emulators.e2b")

HOME = "/home/user"
WORKDIR = "/workspace"

# All processes but those of the machine itself, and but this shell and what it hangs on.
_OTHERS = """
p=$$; skip=" 1 "
while [ "$p" -gt 1 ]; do skip="$skip$p "; read -r _ _ _ p _ < /proc/$p/stat; done
for d in /proc/[0-9]*; do
    p=${d#/proc/}
    case "$skip" in *" $p "*) ;; *) kill "-$0" "$p" 2>/dev/null ;; esac
done
"""


@dataclass(slots=True, kw_only=True)
class Box:
    """One sandbox.

    Attributes:
        site: What its template has brought to /opt/agenthost/site.
        token: What its daemon asks for.
        traffic_token: What its other ports ask for, where they are not public.
        end_at: Seconds since the epoch.
        on_timeout: What happens then.
        moved: Set when the end was moved.
    """

    id: str
    template: str
    alias: str
    cpu: int
    memory_mib: int
    machine: Machine
    programs: Programs
    site: Path | None
    metadata: dict[str, str]
    env: dict[str, str]
    network: dict[str, Any]
    allow_internet_access: bool | None
    started_at: float
    end_at: float
    on_timeout: Literal["kill", "pause"]
    auto_resume: bool
    state: Literal["running", "paused"] = "running"
    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    traffic_token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    moved: anyio.Event = field(default_factory=anyio.Event)
    # A resume that comes while a pause is under way waits for that: else a program could stay stopped.
    _turning: anyio.Lock = field(default_factory=anyio.Lock, repr=False)

    @property
    def is_public(self) -> bool:
        """Whether everybody may reach its ports."""
        return bool(self.network.get("allowPublicTraffic", True))

    def set_end(self, seconds: float) -> None:
        """Let it end so many seconds from now."""
        self.end_at = time.time() + seconds
        self.moved.set()

    async def pause(self) -> None:
        """Let every program stand still, and cut every connection. What is told as its end is now."""
        async with self._turning:
            self.state = "paused"
            self.end_at = time.time()
            self.programs.disconnect()
            await self._signal("STOP")
            self.moved.set()

    async def resume(self, seconds: float) -> None:
        """Let them go on, for so long. What is told as its start is now."""
        async with self._turning:
            self._run_on(seconds)
            await self._signal("CONT")

    async def reboot(self, seconds: float) -> None:
        """Start it anew from its disk, for so long: no program is left."""
        async with self._turning:
            self.programs.disconnect()
            await self._signal("KILL")
            self._run_on(seconds)

    def _run_on(self, seconds: float) -> None:
        self.state = "running"
        self.started_at = time.time()
        self.set_end(seconds)

    async def _signal(self, name: str) -> None:
        await self.machine.sandbox.exec(["bash", "-c", _OTHERS, name])


class Boxes:
    """All sandboxes that there are."""

    def __init__(self, tasks: BackgroundTasks) -> None:
        self._tasks = tasks
        self.all: dict[str, Box] = {}

    def add(self, box: Box) -> None:
        """Keep one, until its time is over."""
        self.all[box.id] = box
        self._tasks.start_soon(self._watch, box)

    async def end(self, box: Box) -> None:
        """End one; its id is unknown from now on."""
        if self.all.pop(box.id, None) is not None:
            box.programs.disconnect()
            box.moved.set()
            await box.machine.end()

    async def _watch(self, box: Box) -> None:
        while box.id in self.all:
            box.moved = anyio.Event()
            left = None if box.state == "paused" else max(0.0, box.end_at - time.time())
            with anyio.move_on_after(left):
                await box.moved.wait()
                continue
            if box.on_timeout == "pause":
                try:
                    await box.pause()
                except AgentHostError:
                    return
            else:
                try:
                    await self.end(box)
                except AgentHostError as error:
                    # Raised here, it would end the emulator. The machine ends with that.
                    _log.warning("sandbox %s did not end in time: %s", box.id, error)
