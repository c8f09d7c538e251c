"""What every test of the Worker gets: the Worker itself, under workerd, around containers of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from cloudflare_worker.calls import KEY, ROOT, Calls
from cloudflare_worker.scripted_engine import ScriptedEngine

from agenthost.errors import MissingExtraError
from agenthost.testing.emulators.cloudflare.worker import RunningWorker, modules, running_worker
from agenthost.testing.loopback import Exchange, HttpRequest, LoopbackServer


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


class Site:
    """What all tests of a module share: an address, behind which each has containers of its own.

    Attributes:
        engine: The containers of the test that runs.
    """

    def __init__(self) -> None:
        self.engine = ScriptedEngine()

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request of the stub."""
        await self.engine.handle(exchange)

    def in_pieces(self, request: HttpRequest) -> bool:
        """Return whether the body of a request is taken while it comes."""
        return self.engine.in_pieces(request)


@pytest.fixture(scope="module")
def site() -> Site:
    """Give what is shared."""
    return Site()


@pytest.fixture(scope="module")
async def engine_url(site: Site, anyio_backend: str) -> AsyncIterator[str]:
    """Give where the containers are served."""
    del anyio_backend
    async with LoopbackServer(site.handle, in_pieces=site.in_pieces) as server:
        yield server.url


@pytest.fixture(scope="module")
async def running(engine_url: str) -> AsyncIterator[RunningWorker]:
    """Give the Worker of a module."""
    async with running_worker(engine_url, KEY) as started:
        yield started


@pytest.fixture
async def engine(site: Site, anyio_backend: str) -> ScriptedEngine:
    """Give the containers of one test."""
    del anyio_backend
    site.engine = ScriptedEngine()
    return site.engine


@pytest.fixture
async def worker(running: RunningWorker, engine: ScriptedEngine) -> AsyncIterator[Calls]:
    """Give calls of the Worker with its key. It knows of no sandbox before, and of none afterwards."""
    async with Calls(running) as calls:
        assert await calls.listed() == {}
        yield calls
        engine.refused.clear()
        for owner in await calls.listed():
            assert (await calls.http.delete(f"{ROOT}/sandboxes/{owner}")).status_code == 204
