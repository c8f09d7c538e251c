"""Sandboxes that are reached through a port, behind an edge that cuts long answers, keep the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping

import pytest
from http_carrier.port_provider import upstream_of

from agenthost import registry
from agenthost.testing import HostedAgentConformance, SandboxConformance
from agenthost.testing.edge import Edge, EdgeRules

pytestmark = pytest.mark.full  # the normal run has both kits on `local`


@pytest.fixture(scope="module", params=["trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on trio alone: the other tests of this directory have asyncio, and agents are much work."""
    backend: str = request.param
    return backend


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """Register the provider, for the tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_registered", {})
        registry.register_provider("ported", "http_carrier.port_provider:PortProvider")
        yield


class Binding:
    provider_name = "ported"

    @pytest.fixture
    async def provider_options(self) -> AsyncIterator[Mapping[str, object]]:
        async with Edge(EdgeRules(longest=1.0)) as edge, edge.serve(upstream_of) as url:
            yield {"edge": url}


class TestPortedSandbox(Binding, SandboxConformance): ...


class TestPortedAgent(Binding, HostedAgentConformance): ...
