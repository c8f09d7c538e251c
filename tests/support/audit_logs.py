"""Audit logs in tests: they outlive their agents, so each test removes its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from agenthost.agent.audit import find_log, read_log

Records = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def logs_are_removed() -> Generator[None]:
    """Remove the audit logs of this process's state directory when a test is over."""
    yield
    shutil.rmtree(Path(os.environ["AGENTHOST_STATE_DIR"], "audit"), ignore_errors=True)


def log_of(agent: str) -> Records:
    """Return the records of an agent's log."""
    path = find_log(agent)
    assert path is not None
    return list(read_log(path))


def some(records: Records, *events: str) -> Records:
    """Return the records of these kinds."""
    return [record for record in records if record["event"] in events]


def is_numbered(records: Records) -> bool:
    """Return whether they are numbered from 1 without a gap."""
    return [record["n"] for record in records] == list(range(1, len(records) + 1))
