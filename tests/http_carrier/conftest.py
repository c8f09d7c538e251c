"""One sandbox with a port for each test module, and edges before it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from http_carrier.port_provider import PortProvider, upstream_of

from agenthost.link.client import GuestSandbox
from agenthost.spec import SandboxSpec
from agenthost.testing.edge import Edge, EdgeRules

Behind = Callable[[EdgeRules], AbstractAsyncContextManager[tuple[Edge, PortProvider, GuestSandbox]]]


@pytest.fixture(scope="module")
async def direct(anyio_backend: str) -> AsyncIterator[PortProvider]:
    """Give the provider, open, without an edge."""
    del anyio_backend
    async with PortProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
async def box(direct: PortProvider) -> AsyncIterator[GuestSandbox]:
    """Give a sandbox that the tests of a module share: they leave no process and no file behind in it."""
    sandbox = await direct.create(SandboxSpec())
    try:
        yield sandbox
    finally:
        await sandbox.terminate()


@pytest.fixture
def behind(box: GuestSandbox) -> Behind:
    """Give what reaches the module's sandbox anew, through an edge with these rules."""

    @asynccontextmanager
    async def reach(rules: EdgeRules) -> AsyncGenerator[tuple[Edge, PortProvider, GuestSandbox]]:
        async with Edge(rules) as edge, edge.serve(upstream_of) as url, PortProvider(edge=url) as provider:
            yield edge, provider, await provider.get(box.id)

    return reach
