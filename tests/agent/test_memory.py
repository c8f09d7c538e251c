"""What a host holds of an agent's messages is bounded, however little it reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LIMIT = 120
BOUND = 30  # MiB, of 100 MB that wait: 8 MiB of messages, the link's window, what Python needs for them
TESTS = Path(__file__).parents[1]


def read_late(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Run stalled_reader.py as a host of its own and return what it tells."""
    backend, *more = arguments
    argv = [sys.executable, "-m", "agent.stalled_reader", backend, str(tmp_path / "record"), *more]
    done = subprocess.run(argv, cwd=TESTS, stdout=subprocess.PIPE, check=True, timeout=LIMIT)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("backend", ["asyncio", pytest.param("trio", marks=pytest.mark.full)])
def test_100_mb_that_nobody_reads_stay_out_of_the_hosts_memory_and_none_is_lost(
    tmp_path: Path, backend: str
) -> None:
    told = read_late(tmp_path, backend)
    assert told["stalled"] < BOUND
    assert told["in_all"] < BOUND
    assert (told["events"], told["wrong"]) == (2_000, [])


@pytest.mark.full
def test_the_measure_sees_what_a_host_without_the_bound_would_hold(tmp_path: Path) -> None:
    told = read_late(tmp_path, "asyncio", str(2**40))
    assert told["stalled"] > 2 * BOUND
    assert (told["events"], told["wrong"]) == (2_000, [])
