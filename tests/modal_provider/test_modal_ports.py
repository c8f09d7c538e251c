"""A port of a sandbox of Modal is reached from outside, by who has a token for it and by nobody else."""

from __future__ import annotations

import httpx
import pytest
from support.port_server import ask, serving

from agenthost.errors import ConfigError, SandboxGoneError
from agenthost.link.client import GuestSandbox
from agenthost.providers.modal.backend import ModalBackend
from agenthost.providers.modal.provider import ModalProvider
from agenthost.spec import NetworkPolicy, SandboxSpec
from agenthost.supports import SupportsPorts
from agenthost.testing.emulators.modal import ModalEmulator


def backend_of(box: GuestSandbox) -> ModalBackend:
    assert isinstance(box.backend, ModalBackend)
    assert isinstance(box.backend, SupportsPorts)
    return box.backend


@pytest.mark.parametrize("network", [NetworkPolicy.open(), NetworkPolicy.none()], ids=["open", "none"])
async def test_a_port_is_reached_with_its_token_and_not_without(
    provider: ModalProvider, network: NetworkPolicy
) -> None:
    box = await provider.create(SandboxSpec(network=network))
    try:
        async with serving(box, "0.0.0.0") as port:
            endpoint = await backend_of(box).endpoint(port)
            answer = await ask(
                endpoint, {**endpoint.headers, "x-verified-user-data": "forged", "x-mine": "1"}
            )
            assert answer.status_code == 201
            path, body, headers = answer.json()
            assert (path, body) == ("/x", "of the host")
            assert "x-mine" in {name.lower() for name in headers}
            assert not {"authorization", "x-verified-user-data"} & {
                name.lower() for name in headers
            }  # they are the proxy's
            for wrong in ({}, {"authorization": "Bearer guessed"}, {"authorization": "Basic x"}):
                assert (await ask(endpoint, wrong)).status_code == 401
            (token,) = endpoint.headers.values()
            assert token.partition(" ")[2] not in repr(endpoint) + endpoint.url
            with pytest.raises(httpx.TransportError):
                await ask(endpoint, path="/cut")
    finally:
        await box.terminate()


@pytest.mark.full
async def test_a_token_is_for_one_port_also_when_nobody_listens_there(provider: ModalProvider) -> None:
    box = await provider.create(SandboxSpec())
    try:
        async with serving(box, "0.0.0.0") as port:
            another = 8000 if port != 8000 else 8001
            assert (await ask(await backend_of(box).endpoint(another))).status_code == 502
            endpoint = await backend_of(box).endpoint(port)
        assert (await ask(endpoint)).status_code == 502
    finally:
        await box.terminate()


@pytest.mark.full
@pytest.mark.parametrize("port", [0, -1, 65536])
async def test_what_is_no_port_is_refused(provider: ModalProvider, port: int) -> None:
    box = await provider.create(SandboxSpec())
    try:
        with pytest.raises(ConfigError, match=f"port {port}: .* 1 to 65535"):
            await backend_of(box).endpoint(port)
    finally:
        await box.terminate()


@pytest.mark.full
async def test_what_has_ended_has_no_ports_and_its_tokens_lead_nowhere(
    provider: ModalProvider, modal: ModalEmulator
) -> None:
    box = await provider.create(SandboxSpec())
    try:
        endpoint = await backend_of(box).endpoint(8000)
        modal.expire(box.id)
        await modal.ended(box.id)
        with pytest.raises(SandboxGoneError):
            await backend_of(box).endpoint(8000)
        assert (await ask(endpoint)).status_code == 404
    finally:
        await box.terminate()


@pytest.mark.full
async def test_modal_may_be_asked_again_for_a_token(provider: ModalProvider, modal: ModalEmulator) -> None:
    box = await provider.create(SandboxSpec())
    try:
        modal.faults.refuse("SandboxCreateConnectTokenV2", "UNAVAILABLE")
        modal.faults.lose_answer("SandboxCreateConnectTokenV2")
        assert (await backend_of(box).endpoint(8000)).headers
    finally:
        await box.terminate()
