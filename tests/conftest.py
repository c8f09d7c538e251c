"""What every test gets."""

from __future__ import annotations

import signal

import pytest

pytest_plugins = ["pytester", "support.leftovers", "support.loopback_guard", "support.reporting"]
pytest_plugins += ["support.scheduling", "support.package_index"]
# One engine of each kind for the whole run.
pytest_plugins += ["support.docker_engine", "support.docker_images", "support.podman_engine"]
pytest_plugins += ["support.e2b_template", "support.modal_images", "support.live"]

# A shell's background job ignores SIGINT and one of nohup's SIGHUP, and so would every program that a test
# starts and signals.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of single suites that are run by hand."""
    group = parser.getgroup("agenthost")
    help_text = "with --full: try every wrong sandbox with every check, not with a fixed fifth of them"
    group.addoption("--all-pairs", action="store_true", help=help_text)


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each async test on both backends."""
    backend: str = request.param
    return backend
