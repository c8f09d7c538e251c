"""Which worker runs a test, and after how long a test that hangs is failed.

The tests of one file stay on one worker, since what a module sets up is made once for them. All that need the
same costly thing of the whole run stay together, an engine or a baked image: each worker would make its own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

# Seconds until a test counts as hung. Not a bound on its speed: the slowest take a tenth of it on two cores.
_HUNG = 300
_HUNG_FULL = 900  # with --full, where many try more
_TOGETHER = ("docker_engine", "e2b_template", "images")


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Say for each test where it runs and when it is given up."""
    hung = _HUNG_FULL if config.getoption("--full") else _HUNG
    for item in items:
        fixtures: list[str] = getattr(item, "fixturenames", [])
        shared = next((name for name in _TOGETHER if name in fixtures), None)
        group = shared or Path(item.path).as_posix()
        item.add_marker(pytest.mark.xdist_group(group))
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(hung))
