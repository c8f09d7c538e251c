"""What every test of the Worker gets: the Worker itself, under workerd, around containers of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from cloudflare_worker.calls import KEY, Calls
from cloudflare_worker.scripted_engine import ScriptedEngine

from agenthost.errors import MissingExtraError
from agenthost.testing.emulators.cloudflare.worker import modules, running_worker
from agenthost.testing.loopback import LoopbackServer


@pytest.fixture(scope="module", params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on one loop: what is tested here is not Python. ``test_running_worker.py`` names both."""
    backend: str = request.param
    return backend


@pytest.fixture(scope="session", autouse=True)
def packages() -> None:
    """Have the packages of the Worker. With --fail-on-skip, as on CI, their absence is a failure."""
    try:
        modules()
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.fixture
async def engine_url(engine: ScriptedEngine) -> AsyncIterator[str]:
    """Give where the containers are served."""
    async with LoopbackServer(engine.handle, in_pieces=engine.in_pieces) as server:
        yield server.url


@pytest.fixture
async def engine(anyio_backend: str) -> ScriptedEngine:
    """Give the containers of one test."""
    del anyio_backend
    return ScriptedEngine()


@pytest.fixture
async def worker(engine_url: str) -> AsyncIterator[Calls]:
    """Give a Worker of one test's own, and calls of it with its key."""
    async with running_worker(engine_url, KEY) as running, Calls(running) as calls:
        yield calls
