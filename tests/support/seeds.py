"""Which seeded schedules a run of the tests tries."""

from __future__ import annotations

import pytest


def chosen_seeds(config: pytest.Config, *, normal: int, full: int) -> list[int]:
    """Return the seeds of this run."""
    first: int | None = config.getoption("fault_seed", default=None)
    count: int | None = config.getoption("fault_schedules", default=None)
    if count is None:
        count = (full if config.getoption("--full") else normal) if first is None else 1
    return list(range(first or 0, (first or 0) + count))
