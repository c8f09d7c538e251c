"""Which agent to attach to, as what, and from where on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agenthost.agent.ref import AgentRef, Cursor
from agenthost.errors import ConfigError

Role = Literal["driver", "observer"]
After = Cursor | int | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One attachment.

    Attributes:
        ref: The agent.
        role: What this process is to it.
        start: The cursor to go on from; None is the oldest event that is kept.
        skip: With ``start`` None: the number of the last event that is not wanted.
    """

    ref: AgentRef
    role: Role
    start: Cursor | None
    skip: int | None = None

    @property
    def sandbox(self) -> str:
        """The sandbox's id."""
        return self.ref.sandbox

    @property
    def owned(self) -> bool:
        """Whether the sandbox is ended with this attachment."""
        return self.ref.owned and self.role == "driver"


def make_attachment(ref: AgentRef | str | bytes, role: str, after: After) -> Attachment:
    """Check what was asked for.

    Raises:
        ConfigError: It makes no sense; the message names the argument.
    """
    if isinstance(ref, str | bytes):
        ref = AgentRef.from_json(ref)
    if role not in ("driver", "observer"):
        raise ConfigError(f"role={role!r}: known are 'driver' and 'observer'")
    found: Role = "driver" if role == "driver" else "observer"
    if after is None:
        return Attachment(ref=ref, role=found, start=ref.cursor)
    if after == "oldest":
        return Attachment(ref=ref, role=found, start=None)
    if isinstance(after, int):
        if after < 0:
            raise ConfigError(f"after={after}: events are counted from 1")
        return Attachment(ref=ref, role=found, start=None, skip=after)
    return Attachment(ref=ref, role=found, start=after if isinstance(after, Cursor) else Cursor.parse(after))
