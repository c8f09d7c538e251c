"""The sandboxes of an emulator: their clock, their state and their end."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio

from agenthost.background import BackgroundTasks
from agenthost.errors import AgentHostError
from agenthost.testing.emulators.base.clock import Clock
from agenthost.testing.emulators.base.machines import Machine

_log = logging.getLogger("agenthost.testing.emulators")

# Signals all processes but those of the machine itself, and but this shell and what it hangs on.
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
        machine: Where its programs run; None while that is being made.
        started_at: Seconds since the epoch.
        end_at: Seconds since the epoch; it has no meaning while the sandbox is paused.
        state: ``running``, ``paused``, or what its provider calls another one.
        ended: Set when it has ended.
        moved: Set when its end or its state has changed.
    """

    id: str
    started_at: float
    end_at: float
    machine: Machine | None
    state: str = "running"
    ended: anyio.Event = field(default_factory=anyio.Event, repr=False)
    moved: anyio.Event = field(default_factory=anyio.Event, repr=False)
    # A resume that comes while a pause is under way waits for that: else a program could stay stopped.
    turning: anyio.Lock = field(default_factory=anyio.Lock, repr=False)

    def move_end(self, at: float) -> None:
        """Let it end then."""
        self.end_at = at
        self.moved.set()

    async def signal_all(self, name: str) -> None:
        """Send a signal (``STOP``, ``CONT``, ``KILL``) to every program in it."""
        assert self.machine is not None
        await self.machine.sandbox.exec(["bash", "-c", _OTHERS, name])


B = TypeVar("B", bound=Box)


class Boxes(Generic[B]):
    """All sandboxes that there are.

    Args:
        tasks: Where the watches run.
        clock: The time by which they end.
        expire: Called with one whose time is over: ends or pauses it.
        list_lag: Seconds until a new one is in the list.

    Attributes:
        all: By id, in the order in which they were made.
    """

    def __init__(
        self,
        tasks: BackgroundTasks,
        clock: Clock,
        expire: Callable[[B], Awaitable[None]],
        *,
        list_lag: float = 0.0,
    ) -> None:
        self.all: dict[str, B] = {}
        self._tasks = tasks
        self._clock = clock
        self._expire = expire
        self._list_lag = list_lag

    def add(self, box: B) -> None:
        """Keep one, and expire it when its time is over."""
        self.all[box.id] = box
        self._tasks.start_soon(self._watch, box)

    def running(self) -> list[B]:
        """Return those that have not ended, in the order in which they were made."""
        return [box for box in self.all.values() if not box.ended.is_set()]

    def listed(self) -> list[B]:
        """Return those that have not ended and that a list has already."""
        latest = self._clock.now() - self._list_lag
        return [box for box in self.running() if not self._list_lag or box.started_at <= latest]

    def mark_ended(self, box: B, *, forget: bool) -> bool:
        """Return whether this call ended it; with ``forget`` its id is unknown from now on."""
        if box.ended.is_set():
            return False
        if forget:
            self.all.pop(box.id, None)
        box.ended.set()
        box.moved.set()
        return True

    async def _watch(self, box: B) -> None:
        while not box.ended.is_set():
            box.moved = anyio.Event()
            at = math.inf if box.state == "paused" else box.end_at
            if not await self._clock.reaches(at, box.moved) or box.moved.is_set():
                continue  # its end or its state is another one by now
            try:
                await self._expire(box)
            except AgentHostError as error:
                # Raised here, it would end the emulator. The machine ends with that.
                _log.warning("sandbox %s did not end in time: %s", box.id, error)


def page(found: list[B], token: str | None, size: int) -> tuple[list[B], str | None]:
    """Return one page of a list, and the token of the next one; None is the last page."""
    begin = int(token or 0)
    return found[begin : begin + size], str(begin + size) if len(found) > begin + size else None
