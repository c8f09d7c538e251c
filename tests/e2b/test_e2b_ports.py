"""A port of a sandbox of E2B is reached from outside, by who was told how and by nobody else."""

from __future__ import annotations

from typing import Any

import e2b as vendor
import httpx
import pytest
from packaging.version import Version
from support.port_server import ask, serving

from agenthost.errors import ConfigError, ProviderError, SandboxGoneError, SandboxPausedError
from agenthost.link.client import GuestSandbox
from agenthost.providers.e2b.backend import E2BBackend, endpoint_of
from agenthost.providers.e2b.provider import E2BProvider
from agenthost.spec import NetworkPolicy, SandboxSpec
from agenthost.supports import Endpoint, SupportsPorts
from agenthost.testing.emulators.e2b import Emulator, Fault

TOKEN = "e2b-traffic-access-token"


def backend_of(box: GuestSandbox) -> E2BBackend:
    assert isinstance(box.backend, E2BBackend)
    assert isinstance(box.backend, SupportsPorts)
    return box.backend


@pytest.mark.parametrize("network", [NetworkPolicy.open(), NetworkPolicy.none()], ids=["open", "none"])
async def test_a_port_is_reached_with_the_headers_and_not_without(
    provider: E2BProvider, e2b: Emulator, network: NetworkPolicy
) -> None:
    box = await provider.create(SandboxSpec(network=network))
    try:
        async with serving(box, "127.0.0.1") as port:
            endpoint = await backend_of(box).endpoint(port)
            answer = await ask(endpoint)
            assert (answer.status_code, answer.headers["x-of"]) == (201, "the server")
            path, body, headers = answer.json()
            assert (path, body) == ("/x", "of the host")
            assert not any(name.lower().startswith("e2b-") for name in headers)  # they are the proxy's
            for wrong, word in ((None, "missing"), ("guessed", "invalid")):
                others = {name: value for name, value in endpoint.headers.items() if name != TOKEN}
                refused = await ask(endpoint, others if wrong is None else {**others, TOKEN: wrong})
                assert refused.status_code == 403
                assert word in refused.json()["message"]
            assert (await ask(endpoint, {})).status_code == 400  # whose port it is, nobody says
            assert endpoint.headers[TOKEN] == e2b.box(box.id).traffic_token
            assert e2b.box(box.id).traffic_token not in repr(endpoint) + endpoint.url
            with pytest.raises(httpx.TransportError):
                await ask(endpoint, path="/cut")
    finally:
        await box.terminate()


@pytest.mark.full
async def test_where_the_public_may_come_in_no_token_is_told_or_asked_for(provider: E2BProvider) -> None:
    box = await provider.create(SandboxSpec(provider_options={"public_ports": True}))
    try:
        async with serving(box, "127.0.0.1") as port:
            endpoint = await backend_of(box).endpoint(port)
            assert TOKEN not in endpoint.headers
            assert (await ask(endpoint)).status_code == 201
    finally:
        await box.terminate()


@pytest.mark.full
async def test_another_process_is_told_the_same(
    provider: E2BProvider, e2b: Emulator, box: GuestSandbox
) -> None:
    del provider
    known = await backend_of(box).endpoint(8000)
    async with E2BProvider(**e2b.options) as other:
        found = await other.reach(box.id)
        assert isinstance(found, E2BBackend)
        assert await found.endpoint(8000) == known


@pytest.mark.full
async def test_a_port_at_which_nobody_listens_is_told_and_is_a_bad_gateway(
    box: GuestSandbox,
) -> None:
    async with serving(box, "127.0.0.1") as port:
        pass
    answer = await ask(await backend_of(box).endpoint(port))
    assert answer.status_code == 502
    assert "port is not open" in answer.json()["message"]


@pytest.mark.full
@pytest.mark.parametrize("port", [0, -1, 65536, True, "8000"])
async def test_what_is_no_port_is_refused_before_e2b_is_asked(
    box: GuestSandbox, e2b: Emulator, port: Any
) -> None:
    before = len(e2b.calls)
    with pytest.raises(ConfigError, match=f"port {port!r}: .* 1 to 65535"):
        await backend_of(box).endpoint(port)
    assert len(e2b.calls) == before


@pytest.mark.full
async def test_what_has_ended_or_is_paused_has_no_ports_and_stays_so(
    provider: E2BProvider, e2b: Emulator, box: GuestSandbox
) -> None:
    await backend_of(box).pause()
    found = await provider.reach(box.id)
    assert isinstance(found, E2BBackend)
    for backend in (backend_of(box), found):
        with pytest.raises(SandboxPausedError):
            await backend.endpoint(8000)
    assert e2b.box(box.id).state == "paused"
    await backend_of(box).resume()
    e2b.faults.add(Fault(f"POST /v2/sandboxes/{box.id}/connect", status=500))
    with pytest.raises(ProviderError, match="connecting to sandbox"):
        await found.endpoint(8000)
    await e2b.lose(box.id)
    for backend in (backend_of(box), found):
        with pytest.raises(SandboxGoneError):
            await backend.endpoint(8000)


@pytest.mark.parametrize(
    ("token", "told"), [("t0ken", {TOKEN: "t0ken"}), (None, {})], ids=["closed", "public"]
)
@pytest.mark.parametrize("domain", ["e2b.app", "sandboxes.example"])
def test_at_e2b_itself_it_is_the_name_that_the_vendors_client_says(
    domain: str, token: str | None, told: dict[str, str]
) -> None:
    endpoint = endpoint_of(sandbox_of(domain=domain, token=token), 8000)
    assert endpoint == Endpoint(url=f"https://8000-i1.{domain}", headers=told)


def test_behind_another_address_it_is_told_by_headers() -> None:
    endpoint = endpoint_of(sandbox_of(sandbox_url="https://way.example/", token="t0ken"), 8000)
    headers = {TOKEN: "t0ken", "e2b-sandbox-id": "i1", "e2b-sandbox-port": "8000"}
    assert endpoint == Endpoint(url="https://way.example", headers=headers)
    assert "t0ken" not in repr(endpoint)


def sandbox_of(*, token: str | None, domain: str = "e2b.app", **options: Any) -> vendor.AsyncSandbox:
    """Return the vendor's object of a sandbox that nobody is asked of."""
    given: dict[str, Any] = {"api_key": "e2b_x", "domain": domain, "debug": False, **options}
    return vendor.AsyncSandbox(
        sandbox_id="i1",
        sandbox_domain=domain,
        envd_version=Version("0.6.13"),
        envd_access_token=None,
        traffic_access_token=token,
        connection_config=vendor.ConnectionConfig(**given),
    )
