"""All scenarios, in one table."""

from parity.scenario import TABLE, Scenario
from parity.table import (
    controls,
    failures,
    hooks,
    in_process,
    permissions,
    prompts,
    sessions,
    stores,
    surroundings,
    tasks,
    tools,
)

__all__ = [
    "TABLE",
    "controls",
    "failures",
    "first_ones",
    "hooks",
    "in_process",
    "permissions",
    "prompts",
    "sessions",
    "stores",
    "surroundings",
    "tasks",
    "tools",
]


def first_ones() -> frozenset[str]:
    """Return the names of the scenarios that cover something that none before them covers."""
    seen: set[str] = set()
    found: list[Scenario] = []
    for one in TABLE:
        if not one.covers <= seen:
            found.append(one)
        seen |= one.covers
    return frozenset(one.name for one in found)
