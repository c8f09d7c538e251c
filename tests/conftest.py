"""What every test gets."""

from __future__ import annotations

import signal

import pytest

pytest_plugins = ["support.leftovers", "support.loopback_guard", "support.reporting"]

# A shell's background job ignores SIGINT, and so would every program that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each async test on both backends."""
    backend: str = request.param
    return backend
