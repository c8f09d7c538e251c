"""What an end of the link tells its owner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agenthost.wire.frames import Data


@dataclass(frozen=True)
class Hello:
    """Host: a guest answered, which nothing proves yet. Another ``boot_id`` than before: another machine."""

    boot_id: str


@dataclass(frozen=True)
class WireVersion:
    """Host: the guest speaks another version."""

    version: object


@dataclass(frozen=True)
class Unproven:
    """Host: what answers cannot prove that it is the guest. The carrier has to be closed."""


@dataclass(frozen=True)
class Ready:
    """Host: the link carries streams and calls again."""


@dataclass(frozen=True)
class Forgotten:
    """Host: the guest no longer knows this link. These calls were sent and their outcome is unknown."""

    calls: tuple[int, ...]


@dataclass(frozen=True)
class Granted:
    """Host: a role was given. For a driver: its epoch, how much of the agent's input has arrived, and whether
    that was all of it: an earlier driver may have ended it."""

    agent: str
    role: str
    epoch: int
    input_offset: int
    input_ended: bool = False


@dataclass(frozen=True)
class Refused:
    """Host: a role was not given. ``reason`` is "token", "superseded" or "unknown"."""

    agent: str
    role: str
    reason: str


@dataclass(frozen=True)
class Answered:
    """Host: a call's answer."""

    call: int
    ok: bool
    value: Any


@dataclass(frozen=True)
class Opened:
    """Host: the guest opened a stream by itself; ``meta`` says what it is."""

    sid: str
    agent: str
    meta: dict[str, Any]


@dataclass(frozen=True)
class Shut:
    """Host: the guest is done with a stream that it had opened, and with the answer to it."""

    sid: str


@dataclass(frozen=True)
class Received:
    """New bytes of a stream, each once and in order."""

    sid: str
    data: Data


@dataclass(frozen=True)
class Ended:
    """A stream ended; all its bytes were delivered before."""

    sid: str


@dataclass(frozen=True)
class Stopped:
    """The receiver of a stream wants no more of it."""

    sid: str


@dataclass(frozen=True)
class Gap:
    """A stream no longer holds what was asked for; ``oldest`` is the first byte it still has."""

    sid: str
    wanted: int
    oldest: int


@dataclass(frozen=True)
class Missing:
    """There is no such stream, or no right to it."""

    sid: str


@dataclass(frozen=True)
class Called:
    """Guest: a call to be done, once."""

    call: int
    method: str
    params: dict[str, Any]


@dataclass(frozen=True)
class LinkForgotten:
    """Guest: a link was silent for too long; what belongs to it may go."""

    link_id: str


@dataclass(frozen=True)
class DriverChanged:
    """Guest: an agent has a new driver."""

    agent: str
    epoch: int


Event = (
    Hello
    | WireVersion
    | Unproven
    | Ready
    | Forgotten
    | Granted
    | Refused
    | Answered
    | Opened
    | Shut
    | Received
    | Ended
    | Stopped
    | Gap
    | Missing
    | Called
    | LinkForgotten
    | DriverChanged
)
