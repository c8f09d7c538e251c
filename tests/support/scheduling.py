"""Which worker runs a test, and after how long a test that hangs is failed.

The tests of one file stay on one worker, since what a module sets up is made once for them. Those that need
a container engine stay together, and those of one cloud, whose client takes seconds to import.
"""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # pyright: ignore[reportMissingTypeStubs] - it has none

# Seconds until a test counts as hung. Not a bound on its speed: the slowest take a tenth of it on two cores.
_HUNG = 300
_HUNG_FULL = 900  # with --full, where many try more
_HUNG_DEEP = 4 * 3600  # with a flag of deep runs, where one test tries hundreds
_DEEP = ("schedules", "all_pairs", "agents")
# A container engine is one for a worker, and each would bake an image of its own.
_TOGETHER = (
    "tests/cli/test_bake.py",
    "tests/config/test_page.py",
    "tests/docker/",
    "tests/examples/test_anywhere.py",
)
# The tests of every adapter, of which the docker provider's need the engine.
_EVERY_ADAPTER = "tests/providers/"
_CLOUDS = (
    *("tests/cloudflare_provider/", "tests/daytona_provider/", "tests/e2b/"),
    *("tests/fly/", "tests/modal_provider/", "tests/vercel_provider/"),
)
# One file that holds hundreds of long tests. A scenario stays in its part, whose bare side is played once.
_IN_PARTS = "tests/parity/test_parity.py"
_PARTS = 8

# What has the longest tests begins first, or one worker would end long after the others.
_FIRST = (
    *(
        *_TOGETHER,
        *_CLOUDS,
        "tests/conformance/",
        "tests/providers/",
    ),
    *("tests/faults/", "tests/local/", "tests/parity/", "tests/http_carrier/", "tests/agent/"),
    *("tests/cli/", "tests/examples/"),
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests in order, and say for each when it is given up."""
    items.sort(key=_rank)  # those of a file stay in theirs
    hung = _HUNG_FULL if config.getoption("--full") else _HUNG
    if any(config.getoption(flag) for flag in _DEEP):
        hung = _HUNG_DEEP
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(hung))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Hand out files, or whole suites."""
    return _Files(config, log)


def _rank(item: pytest.Item) -> int:
    ranks = [rank for rank, path in enumerate(_FIRST) if item.nodeid.startswith(path)]
    return min(ranks, default=len(_FIRST))


class _Files(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        path, _, test = nodeid.partition("::")
        if path.startswith(_EVERY_ADAPTER) and "[docker" in test:
            return "together"
        if path == _IN_PARTS:
            scenario = test.partition("[")[2].rpartition("-local")[0] or test
            return f"{path}-{zlib.crc32(scenario.encode()) % _PARTS}"
        if path.startswith(_TOGETHER):
            return "together"
        return path.rpartition("/")[0] if path.startswith(_CLOUDS) else path
