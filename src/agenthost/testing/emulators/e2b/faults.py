"""What goes wrong when it is told to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong with calls.

    Attributes:
        call: How the calls begin: ``POST /v2/sandboxes``, ``POST /process.Process/Start``. Ids are in them.
        status: They are refused with this HTTP status; None is a fault of another kind.
        message: What the refusal says.
        headers: More headers of the refusal: ``retry-after``, ``should-retry``.
        after: With a ``status``: they are done, and refused nevertheless.
        lose: They are done, and their answer is lost.
        drop: The connection is cut before they are done.
        hold: They wait before they are done, until ``release``.
        times: So often; then they go well again.
        struck: Set when it has happened for the first time.
    """

    call: str
    status: int | None = None
    message: str = "it is told to fail"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    after: bool = False
    lose: bool = False
    drop: bool = False
    hold: bool = False
    times: int = 1
    struck: anyio.Event = field(default_factory=anyio.Event)
    _released: anyio.Event = field(default_factory=anyio.Event)

    def release(self) -> None:
        """Let what is held go on."""
        self._released.set()

    async def wait_released(self) -> None:
        """Return when it may go on."""
        await self._released.wait()


class Faults:
    """All that is to go wrong, in the order in which it was said."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Let it happen to the next calls that it is about."""
        self._waiting.append(fault)
        return fault

    def clear(self) -> None:
        """Let everything go well again."""
        self._waiting.clear()

    def next(self, call: str) -> Fault | None:
        """Return what goes wrong with a call."""
        for fault in self._waiting:
            if call.startswith(fault.call):
                fault.times -= 1
                if fault.times <= 0:
                    self._waiting.remove(fault)
                fault.struck.set()
                return fault
        return None
