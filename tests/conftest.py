"""What every test gets."""

from __future__ import annotations

import signal
from typing import Any

import pytest

pytest_plugins = ["pytester", "support.leftovers", "support.loopback_guard"]
pytest_plugins += ["support.processor_time", "support.reporting", "support.collecting"]
pytest_plugins += ["support.preloaded", "support.run_directory", "support.scheduling"]
pytest_plugins += ["support.package_index", "support.deep_runs"]
# One engine of each kind for the whole run.
pytest_plugins += ["docker.docker_engine", "docker.docker_images", "docker.podman_engine"]
pytest_plugins += ["support.e2b_template", "support.vercel_snapshot", "support.daytona_snapshot"]
pytest_plugins += ["modal_provider.images", "support.live"]

# A shell's background job ignores SIGINT and one of nohup's SIGHUP, and so would every program that a test
# starts and signals.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

anyio_backend: Any = None  # a fixture, made below: pytest looks for fixtures once it knows its options


def pytest_configure(config: pytest.Config) -> None:
    """Make the fixture that says on which event loops async tests run."""
    global anyio_backend
    anyio_backend = _event_loops("asyncio", "trio") if config.getoption("--full") else _event_loops("asyncio")


def _event_loops(*names: str) -> Any:
    """Return the fixture. What differs between the two loops lies in anyio and in a few lines of ours."""

    @pytest.fixture(scope="module", params=names)
    def anyio_backend(request: pytest.FixtureRequest) -> str:
        """Run each async test on the event loops of this run."""
        backend: str = request.param
        return backend

    return anyio_backend
