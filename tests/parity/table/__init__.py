"""All scenarios, in one table."""

from parity.scenario import TABLE
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
    together,
    tools,
)

__all__ = [
    "TABLE",
    "controls",
    "failures",
    "hooks",
    "in_process",
    "normal_ones",
    "permissions",
    "prompts",
    "sessions",
    "stores",
    "surroundings",
    "tasks",
    "together",
    "tools",
]


def normal_ones() -> frozenset[str]:
    """Return the names of few scenarios that cover everything: the one that adds most, and so on."""
    left = set[str]().union(*(one.covers for one in TABLE))
    found: list[str] = []
    while left:
        best = max(TABLE, key=lambda one: len(one.covers & left))
        left -= best.covers
        found.append(best.name)
    return frozenset(found)
