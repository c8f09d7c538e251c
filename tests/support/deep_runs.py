"""How much a run tries of what has no end: a small sample by itself, and any number by a flag."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flags of deep runs."""
    group = parser.getgroup("agenthost, deep runs")
    group.addoption("--schedules", type=int, help="how many schedules each test of schedules tries")
    group.addoption("--schedule-seed", type=int, help="seed of the first schedule, or of the only one")
    group.addoption(
        "--all-pairs", action="store_true", help="with --full: try every wrong sandbox with every check"
    )
    group.addoption("--agents", type=int, help="how many agents live at once where a test has many")


def chosen_seeds(
    config: pytest.Config, backend: str, *, normal: int, full: int, together: int = 1
) -> list[int]:
    """Return the seeds of this run on a backend.

    With ``--full``, which has both backends, each takes every second group of them. The normal run has one,
    and a seed that was named is tried wherever its test runs.

    Args:
        config: Of the run.
        backend: asyncio or trio.
        normal: How many the normal run has.
        full: How many ``--full`` has, on both backends together.
        together: How many make a group.
    """
    first: int | None = config.getoption("schedule_seed")
    count: int | None = config.getoption("schedules")
    is_full = bool(config.getoption("--full"))
    if count is None:
        count = (full if is_full else normal) if first is None else 1
    seeds = range(first or 0, (first or 0) + count)
    if not is_full or first is not None:
        return list(seeds)
    mine = 0 if backend == "asyncio" else 1
    return [seed for seed in seeds if seed // together % 2 == mine]


def count_of(config: pytest.Config, flag: str, *, normal: int, full: int) -> int:
    """Return how many a run tries where no backend has a share of its own: what ``flag`` names, if given."""
    given: int | None = config.getoption(flag, default=None)
    return given or (full if config.getoption("--full") else normal)
