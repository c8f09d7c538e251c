"""A sandbox far away: what waits for the other side, counted in round trips.

Each way takes 80 ms, as from one continent to another; the machine's own time is small beside that.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import cast

from agent_rows import environment, model_server, options
from carrier_rows import Dialled
from measure import Row

from agenthost import HostedAgent, SandboxSpec
from agenthost.providers.local.local_unisolated import UnisolatedProvider
from agenthost.sandbox import Backend, Boot, Carrier

_ONE_WAY = 0.08
_FILE = 2_000_000


class _Far:
    """A carrier that delivers what it is given some time later, in order, at any rate."""

    def __init__(self, inner: Carrier) -> None:
        self._inner = inner
        self._out: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._in: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]

    @property
    def binary(self) -> bool:
        """Return what the carrier says."""
        return self._inner.binary

    async def send(self, data: bytes) -> None:
        """Send it later."""
        self._out.put_nowait((time.monotonic() + _ONE_WAY, data))

    async def receive(self) -> bytes:
        """Return what was sent a while ago."""
        return await _due(self._in)

    async def aclose(self) -> None:
        """Close, at once."""
        for task in self._tasks:
            task.cancel()
        await self._inner.aclose()

    async def _send(self) -> None:
        with suppress(OSError):  # it has ended, which ``receive`` tells
            while True:
                await self._inner.send(await _due(self._out))

    async def _receive(self) -> None:
        data = b"more"
        while data:
            data = await self._inner.receive()
            self._in.put_nowait((time.monotonic() + _ONE_WAY, data))


async def _due(queue: asyncio.Queue[tuple[float, bytes]]) -> bytes:
    at, data = await queue.get()
    await asyncio.sleep(max(0.0, at - time.monotonic()))
    return data


class FarAway(UnisolatedProvider):
    """``local-unisolated``, behind a long way."""

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Make a sandbox."""
        inner = await super().make(spec, boot)

        async def dial() -> Carrier:
            return _Far(await inner.dial())

        return cast("Backend", Dialled(inner, dial))


async def rows(rounds: int) -> AsyncIterator[Row]:
    """Measure all."""
    with model_server() as url, tempfile.TemporaryDirectory() as home, environment(url, home):
        async with FarAway() as provider:
            box = await provider.create(SandboxSpec())
            data = bytes(_FILE)
            try:
                yield await _row("exec true", lambda: box.exec(["true"]), 1, rounds)
                yield await _row("write 2 MB", lambda: box.write_file("file", data), 2, rounds)
                yield await _row("read 2 MB", lambda: box.read_file("file"), 2, rounds)
                async with HostedAgent(options(), sandbox=box) as agent:

                    async def turn() -> None:
                        await agent.query("hi")
                        async for _ in agent.receive_response():
                            pass

                    yield await _row("one turn, of which the model's request is 1", turn, 2, rounds)
            finally:
                await box.terminate()


async def _row(name: str, once: Callable[[], Awaitable[object]], trips: int, rounds: int) -> Row:
    taken: list[float] = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        await once()
        if number:
            taken.append((time.perf_counter() - began) / (2 * _ONE_WAY))
    # Half a round trip more is the machine's own time; the next wait would be a whole one.
    return Row(
        group="distance", name=f"at 80 ms: {name}", unit="round trips", ours=statistics.median(taken),
        baseline=None, baseline_name="", goal=trips + 0.5, rounds=rounds,
    )  # fmt: skip
