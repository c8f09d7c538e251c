"""Which seeded schedules a run of the tests tries."""

from __future__ import annotations

import pytest


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
    first: int | None = config.getoption("fault_seed", default=None)
    count: int | None = config.getoption("fault_schedules", default=None)
    is_full = bool(config.getoption("--full"))
    if count is None:
        count = (full if is_full else normal) if first is None else 1
    seeds = range(first or 0, (first or 0) + count)
    if not is_full or first is not None:
        return list(seeds)
    mine = 0 if backend == "asyncio" else 1
    return [seed for seed in seeds if seed // together % 2 == mine]
