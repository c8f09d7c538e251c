"""What a guest tells of its agents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """One agent in a sandbox.

    Attributes:
        agent: Its name.
        pid: The runner's process id inside.
        exit_code: None while it runs; 128 + N for signal N.
        driven: Whether a driver's link is up.
        model: Whether its model requests travel over the link, to its driver.
        journal_begin: Offset of the oldest byte of its journal that is kept.
        journal_end: How many bytes its journal has had.
    """

    agent: str
    pid: int
    exit_code: int | None
    driven: bool
    model: bool
    journal_begin: int
    journal_end: int


def agent_status(told: Mapping[str, Any]) -> AgentStatus:
    """Return what the guest told."""
    begin, end = told["journal"]
    code = told["exit_code"]
    return AgentStatus(
        agent=str(told["agent"]),
        pid=int(told["pid"]),
        exit_code=None if code is None else int(code),
        driven=bool(told["driven"]),
        model=bool(told["model"]),
        journal_begin=int(begin),
        journal_end=int(end),
    )
