"""A stranger at a guest's public port sends again what a host has sent there, or changes it on its way."""

from __future__ import annotations

import os

import pytest
from http_carrier.test_port import KEY, Served, down, served, up

import agenthost.guest.http.port
from agenthost.guest.http.connection import REFUSAL

__all__ = ["anyio_backend", "served"]

FIRST = "recorded first request of a carrier sent again"
LATER = "recorded batch sent to another carrier of the same name"
CHANGED = "request that was changed on its way"
SPEAK = "speak to a guest at its public port"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on asyncio, as guests do."""
    return "asyncio"


async def end(served: Served, key: bytes) -> None:
    """End a carrier, as its host would."""
    await served.ask(down(key, number=7, have=10_000) + b"GET / HTTP/1.1\r\n\r\n")
    served.pass_time(0)


async def send_again(served: Served) -> tuple[bytes, bytes]:
    """Return the answers to a first request and to a batch that were recorded of a carrier that has ended."""
    stream, key = await served.admit()
    async with stream:
        await end(served, key)
    async with await served.connect() as again:
        await again.send(down(KEY))
        first = await again.receive()
        return first, await served.ask(up(key, 0, b"") + b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.attack(SPEAK, FIRST)
@pytest.mark.attack(SPEAK, LATER)
async def test_nothing_that_was_recorded_is_taken_again(served: Served) -> None:
    assert await send_again(served) == (REFUSAL, REFUSAL)


@pytest.mark.control(FIRST)
async def test_a_port_that_forgets_names_admits_a_recorded_request(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agenthost.guest.http.port, "REMEMBERED", 0)
    first, later = await send_again(served)
    assert first.startswith(b"HTTP/1.1 200 ")
    assert later == REFUSAL  # the carrier's own nonce is another one


@pytest.mark.control(LATER)
async def test_a_port_whose_carriers_are_alike_takes_a_recorded_batch(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agenthost.guest.http.port, "REMEMBERED", 0)
    monkeypatch.setattr(os, "urandom", bytes)
    _, later = await send_again(served)
    assert later.startswith(b"HTTP/1.1 204 ")


async def ask_otherwise(served: Served) -> bytes:
    """Return the answer to a signed first request that was made another one."""
    return await served.ask(down(KEY).replace(b"have=0", b"have=0&mode=poll") + b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.attack(SPEAK, CHANGED)
async def test_a_request_that_was_changed_is_refused(served: Served) -> None:
    assert await ask_otherwise(served) == REFUSAL


@pytest.mark.control(CHANGED)
async def test_a_port_that_compares_no_token_answers_a_request_that_was_changed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signed(*_: object) -> bool:
        return True

    monkeypatch.setattr(agenthost.guest.http.port, "is_signed", signed)
    assert (await ask_otherwise(served)).startswith(b"HTTP/1.1 200 ")
