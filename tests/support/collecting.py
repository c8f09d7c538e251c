"""Finding the tests, which every worker does anew, costs as little as it can."""

from __future__ import annotations

import gc

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Look for no garbage while thousands of tests are made, in the processes that run them."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        gc.disable()


def pytest_collection_finish() -> None:
    """Look for it again."""
    gc.enable()
