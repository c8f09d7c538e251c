"""LinkFaults does to a carrier what it says, at the byte that it says."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from agenthost.link.carriers.socket import SocketCarrier
from agenthost.sandbox import Backend, Carrier, SandboxInfo
from agenthost.testing import Fault, LinkFaults
from agenthost.testing.faults import KINDS, seeded_plan

LIMIT = 20
PATIENCE = 0.2  # seconds in which nothing must happen


class Sockets:
    """A backend whose carriers are socket pairs; the other ends are the test's."""

    def __init__(self) -> None:
        self.others: list[SocketCarrier] = []

    async def boot(self) -> None:
        """There is nothing to boot."""

    async def dial(self) -> Carrier:
        ours, other = socket.socketpair()
        ours.setblocking(False)
        other.setblocking(False)
        self.others.append(SocketCarrier(other))
        return SocketCarrier(ours)

    async def info(self) -> SandboxInfo:
        return SandboxInfo(id="s", name="s", provider="sockets", state="running")

    async def terminate(self) -> None:
        """There is nothing to end."""


@asynccontextmanager
async def sockets() -> AsyncGenerator[Sockets]:
    backend = Sockets()
    with anyio.fail_after(LIMIT):
        try:
            yield backend
        finally:
            for other in backend.others:
                await other.aclose()


async def all_of(carrier: Carrier) -> bytes:
    """Return what comes until the end."""
    parts: list[bytes] = []
    while data := await carrier.receive():
        parts.append(data)
    return b"".join(parts)


async def nothing_comes(carrier: Carrier) -> bool:
    with anyio.move_on_after(PATIENCE) as scope:
        await carrier.receive()
    return scope.cancelled_caught


async def test_a_cut_lets_so_many_bytes_pass_and_both_ends_hear_of_it() -> None:
    plan = [Fault("cut", "up", 5), Fault("cut", "down", 3), None]
    async with sockets() as backend, LinkFaults(plan) as faults:
        spoiled: Backend = faults.wrap(backend)
        up = await spoiled.dial()
        await up.send(b"abc")
        with pytest.raises(BrokenPipeError):
            await up.send(b"defg")
        assert await up.receive() == b""
        await up.aclose()
        assert await all_of(backend.others[0]) == b"abcde"

        down = await spoiled.dial()
        await backend.others[1].send(b"xyzzy")
        assert await all_of(down) == b"xyz"
        with pytest.raises(BrokenPipeError):
            await down.send(b"more")
        await down.aclose()
        assert await all_of(backend.others[1]) == b""

        good = await spoiled.dial()
        await good.send(b"all")
        await backend.others[2].send(b"well")
        assert (await good.receive(), await backend.others[2].receive()) == (b"well", b"all")
        assert faults.struck == plan[:2]
        await good.aclose()


async def test_a_stall_takes_and_brings_nothing_and_the_guest_may_not_hear_of_its_end() -> None:
    async with sockets() as backend:
        async with LinkFaults([Fault("stall", "up", 3, lingers=True)]) as faults:
            carrier = await faults.wrap(backend).dial()
            with anyio.move_on_after(PATIENCE) as scope:
                await carrier.send(b"abcdef")
            assert scope.cancelled_caught
            await backend.others[0].send(b"anybody there?")
            assert await nothing_comes(carrier)
            await carrier.aclose()
            assert await backend.others[0].receive() == b"abc"
            assert await nothing_comes(backend.others[0])
        assert await backend.others[0].receive() == b""


@pytest.mark.parametrize(("kind", "arrives"), [("half-open", False), ("deaf", True)])
async def test_what_is_sent_disappears_and_what_comes_may_arrive(kind: str, arrives: bool) -> None:
    assert kind in KINDS
    async with sockets() as backend, LinkFaults() as faults:
        carrier = await faults.wrap(backend).dial()
        faults.strike("deaf" if kind == "deaf" else "half-open")
        await carrier.send(b"into the void")
        await backend.others[0].send(b"echo")
        if arrives:
            assert await carrier.receive() == b"echo"
        assert await nothing_comes(carrier)
        assert await nothing_comes(backend.others[0])
        await carrier.aclose()


async def test_a_slow_carrier_brings_everything_a_little_at_a_time_and_can_still_be_cut() -> None:
    data = bytes(range(256)) * 40
    async with sockets() as backend, LinkFaults([Fault("slow", "down", 100)]) as faults:
        carrier = await faults.wrap(backend).dial()
        await backend.others[0].send(data)
        pieces: list[bytes] = []
        while sum(map(len, pieces)) < len(data):
            pieces.append(await carrier.receive())
        assert b"".join(pieces) == data
        assert max(map(len, pieces)) < 100
        await carrier.send(data)
        got = b""
        while len(got) < len(data):
            got += await backend.others[0].receive()
        assert got == data
        faults.strike("cut")
        assert await carrier.receive() == b""
        await carrier.aclose()


async def test_a_doubled_carrier_lives_on_beside_the_next_one_and_its_last_bytes_come_late() -> None:
    async with sockets() as backend:
        async with LinkFaults([Fault("double", "up", 2)]) as faults:
            spoiled = faults.wrap(backend)
            first = await spoiled.dial()
            with pytest.raises(BrokenPipeError):
                await first.send(b"abcd")
            await first.aclose()
            assert await backend.others[0].receive() == b"ab"
            assert await nothing_comes(backend.others[0])
            second = await spoiled.dial()
            assert await backend.others[0].receive() == b"cd"
            await second.send(b"new")
            assert await backend.others[1].receive() == b"new"
            assert await nothing_comes(backend.others[0])
            await second.aclose()
        assert await backend.others[0].receive() == b""


async def test_dials_are_refused_and_a_strike_wakes_who_waits() -> None:
    async with sockets() as backend, LinkFaults() as faults:
        spoiled = faults.wrap(backend)
        carrier = await spoiled.dial()
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                assert await carrier.receive() == b""

            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            faults.strike("cut", refused=2)
        await carrier.aclose()
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                await spoiled.dial()
        faults.add(Fault("cut", "up", 1))
        last = await spoiled.dial()
        with pytest.raises(BrokenPipeError):
            await last.send(b"xy")
        await last.aclose()
        assert faults.dialled == 4


async def test_what_is_added_is_for_the_carrier_of_now_if_it_is_good() -> None:
    async with sockets() as backend, LinkFaults() as faults:
        carrier = await faults.wrap(backend).dial()
        await carrier.send(b"well")
        faults.add(Fault("cut", "up", 1))
        with pytest.raises(BrokenPipeError):
            await carrier.send(b"xy")
        await carrier.aclose()
        assert await all_of(backend.others[0]) == b"wellx"


def test_the_same_seed_makes_the_same_faults() -> None:
    assert seeded_plan(7) == seeded_plan(7)
    kinds = {fault.kind for seed in range(200) for fault in seeded_plan(seed) if fault is not None}
    assert kinds == set(KINDS)
