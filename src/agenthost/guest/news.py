"""What the guest tells an agent's program: lines on its stdin, between those of the host."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agenthost.guest.model import ModelEndpoint
from agenthost.wire.guest import GuestHub
from agenthost.wire.streams import SendStream


@dataclass
class _Listener:
    insert: Callable[[bytes], None]
    journal: SendStream
    told: tuple[int, bool] = (0, True)  # epoch, and whether the driver was there
    waits: bool = False  # it was told that its model request waits for a host


class News:
    """Tells of drivers that come and go: of one that comes at once, of one that went at the next tick."""

    def __init__(self, hub: GuestHub, model: ModelEndpoint) -> None:
        self._hub = hub
        self._model = model
        self._listeners: dict[str, _Listener] = {}

    def add(self, agent: str, insert: Callable[[bytes], None], journal: SendStream) -> None:
        """Tell an agent from now on."""
        self._listeners[agent] = _Listener(insert, journal)

    def remove(self, agent: str) -> None:
        """Tell it no more."""
        self._listeners.pop(agent, None)

    def is_driven(self, agent: str) -> bool:
        """Return whether an agent has a driver whose link is up."""
        door = self._hub.doors.get(agent)
        link = None if door is None else self._hub.driver_of(door)
        return link is not None and link.connected

    def driver_changed(self, agent: str) -> None:
        """A driver has come: what the one before had begun to answer is asked again."""
        repeated = self._model.driver_changed(agent)
        listener = self._listeners.get(agent)
        if listener is not None:
            self._tell(listener, self._hub.doors[agent].epoch, present=True)
            if repeated:
                _say(listener, {"op": "note", "state": "answer_repeated"})

    def tick(self) -> None:
        """Look who is there."""
        for agent, listener in self._listeners.items():
            present = self.is_driven(agent)
            epoch = self._hub.doors[agent].epoch
            if epoch and listener.told != (epoch, present):
                self._tell(listener, epoch, present=present)
            if present:
                listener.waits = False
            elif epoch and not listener.waits and self._model.waits(agent):
                listener.waits = True
                _say(listener, {"op": "note", "state": "waiting_for_host"})

    def _tell(self, listener: _Listener, epoch: int, *, present: bool) -> None:
        listener.told = epoch, present
        _say(listener, {"op": "driver", "epoch": epoch, "present": present, "shown": listener.journal.shown})


def _say(listener: _Listener, line: dict[str, Any]) -> None:
    listener.insert(json.dumps(line).encode() + b"\n")
