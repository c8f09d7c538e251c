"""A port of a sandbox of Modal is reached from outside, by who has a token for it and by nobody else."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest

from agenthost.errors import ConfigError, SandboxGoneError
from agenthost.guest.client import GuestSandbox
from agenthost.providers.modal.backend import ModalBackend
from agenthost.providers.modal.provider import ModalProvider
from agenthost.spec import NetworkPolicy, SandboxSpec
from agenthost.supports import Endpoint, SupportsPorts
from agenthost.testing.conformance.streams import read_line
from agenthost.testing.emulators.modal import ModalEmulator

# Answers with the names of the headers that it was sent and with the body; cuts its answer for /cut.
SERVE = """
import json
from http.server import BaseHTTPRequestHandler, HTTPServer

class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        told = json.dumps([self.path, body, sorted(name.lower() for name in self.headers)]).encode()
        self.send_response(201)
        self.send_header("content-length", str(len(told) + (self.path == "/cut")))
        self.end_headers()
        self.wfile.write(told)
        self.close_connection = True

    def log_message(self, *words):
        pass

server = HTTPServer(("0.0.0.0", 0), Answer)
print(server.server_port, flush=True)
server.serve_forever()
"""


@asynccontextmanager
async def serving(box: GuestSandbox) -> AsyncGenerator[int]:
    async with box.spawn([box.layout.python, "-I", "-c", SERVE]) as server:
        yield int(await read_line(server))


def backend_of(box: GuestSandbox) -> ModalBackend:
    assert isinstance(box.backend, ModalBackend)
    assert isinstance(box.backend, SupportsPorts)
    return box.backend


async def ask(endpoint: Endpoint, headers: dict[str, str] | None = None, path: str = "/x") -> httpx.Response:
    async with httpx.AsyncClient() as client:
        given = dict(endpoint.headers if headers is None else headers)
        return await client.post(f"{endpoint.url}{path}", headers=given, content=b"of the host")


@pytest.mark.parametrize("network", [NetworkPolicy.open(), NetworkPolicy.none()], ids=["open", "none"])
async def test_a_port_is_reached_with_its_token_and_not_without(
    provider: ModalProvider, network: NetworkPolicy
) -> None:
    box = await provider.create(SandboxSpec(network=network))
    try:
        async with serving(box) as port:
            endpoint = await backend_of(box).endpoint(port)
            answer = await ask(
                endpoint, {**endpoint.headers, "x-verified-user-data": "forged", "x-mine": "1"}
            )
            assert answer.status_code == 201
            path, body, headers = answer.json()
            assert (path, body) == ("/x", "of the host")
            assert "x-mine" in headers
            assert not {"authorization", "x-verified-user-data"} & set(headers)  # they are the proxy's
            for wrong in ({}, {"authorization": "Bearer guessed"}, {"authorization": "Basic x"}):
                assert (await ask(endpoint, wrong)).status_code == 401
            (token,) = endpoint.headers.values()
            assert token.partition(" ")[2] not in repr(endpoint) + endpoint.url
            with pytest.raises(httpx.TransportError):
                await ask(endpoint, path="/cut")
    finally:
        await box.terminate()


async def test_a_token_is_for_one_port_also_when_nobody_listens_there(provider: ModalProvider) -> None:
    box = await provider.create(SandboxSpec())
    try:
        async with serving(box) as port:
            another = 8000 if port != 8000 else 8001
            assert (await ask(await backend_of(box).endpoint(another))).status_code == 502
            endpoint = await backend_of(box).endpoint(port)
        assert (await ask(endpoint)).status_code == 502
    finally:
        await box.terminate()


@pytest.mark.parametrize("port", [0, -1, 65536])
async def test_what_is_no_port_is_refused(provider: ModalProvider, port: int) -> None:
    box = await provider.create(SandboxSpec())
    try:
        with pytest.raises(ConfigError, match=f"port {port}: .* 1 to 65535"):
            await backend_of(box).endpoint(port)
    finally:
        await box.terminate()


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


async def test_modal_may_be_asked_again_for_a_token(provider: ModalProvider, modal: ModalEmulator) -> None:
    box = await provider.create(SandboxSpec())
    try:
        modal.faults.refuse("SandboxCreateConnectTokenV2", "UNAVAILABLE")
        modal.faults.lose_answer("SandboxCreateConnectTokenV2")
        assert (await backend_of(box).endpoint(8000)).headers
    finally:
        await box.terminate()
