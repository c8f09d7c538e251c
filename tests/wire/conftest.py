"""How many schedules the sans-IO link goes through."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from support.deep_runs import count_of

_NORMAL, _FULL = 250, 1000


def pytest_configure(config: pytest.Config) -> None:
    """Make the profile that the schedules run with."""
    settings.register_profile(
        "wire-schedules",
        max_examples=count_of(config, "schedules", normal=_NORMAL, full=_FULL),
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
