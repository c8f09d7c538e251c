"""How many schedules: 2,000 in the normal run, any number by ``--wire-schedules``."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

_NORMAL = 2000


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag. It is there when this directory or something in it is named on the command line."""
    parser.addoption(
        "--wire-schedules", type=int, default=_NORMAL, help=f"schedules of the link to try [{_NORMAL}]"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the profile that the schedules run with."""
    settings.register_profile(
        "wire-schedules",
        max_examples=config.getoption("wire_schedules", default=_NORMAL),
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
