"""A sealed link beside one that needs no seals: the same provider, with a socket taken to be within reach."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
from agent_rows import environment, model_server, options
from claude_agent_sdk import StreamEvent
from measure import Row, in_turns

from agenthost import HostedAgent, SandboxSpec
from agenthost.link.client import GuestSandbox
from agenthost.providers.local.provider import LocalProvider

_FLOOD = 100 * 1024 * 1024
_DELTAS = 20_000
_AT_ONCE = 10  # hosts that connect one after the other, for one figure


class SealedLocal(LocalProvider):
    """``local`` with seals, as a provider has them whose agents reach the guest's socket."""

    private_socket = False


async def rows(rounds: int) -> AsyncIterator[Row]:
    """Measure all."""
    async with SealedLocal() as sealed, LocalProvider() as private:
        boxes = [await provider.create(SandboxSpec()) for provider in (sealed, private)]
        try:
            yield await _flood(boxes[0], boxes[1], rounds)
            yield await _large_file(boxes[0], boxes[1], rounds)
            yield await _connect(sealed, boxes[0].id, private, boxes[1].id, rounds)
        finally:
            for box in boxes:
                await box.terminate()
        with model_server() as url, tempfile.TemporaryDirectory() as home, environment(url, home):
            yield await _partial_messages(sealed, private, rounds)


async def _flood(sealed: GuestSandbox, private: GuestSandbox, rounds: int) -> Row:
    async def once(box: GuestSandbox) -> float:
        began = time.perf_counter()
        result = await box.exec(["head", "-c", str(_FLOOD), "/dev/zero"], max_output=_FLOOD)
        assert len(result.stdout) == _FLOOD
        return time.perf_counter() - began

    a, b = await in_turns(lambda: once(sealed), lambda: once(private), rounds)
    return _row("exec printing 100 MiB, sealed", "s", a, b, goal=1.6, rounds=rounds)


async def _large_file(sealed: GuestSandbox, private: GuestSandbox, rounds: int) -> Row:
    data = bytes(_FLOOD)

    async def once(box: GuestSandbox) -> float:
        began = time.perf_counter()
        await box.write_file("big", data)
        return time.perf_counter() - began

    a, b = await in_turns(lambda: once(sealed), lambda: once(private), rounds)
    return _row("write 100 MiB, sealed", "s", a, b, goal=1.6, rounds=rounds)


async def _connect(
    sealed: LocalProvider, sealed_id: str, private: LocalProvider, private_id: str, rounds: int
) -> Row:
    async def once(provider: LocalProvider, sandbox_id: str) -> float:
        began = time.perf_counter()
        for _ in range(_AT_ONCE):
            box = await provider.get(sandbox_id)
            box.session.close()
            await anyio.lowlevel.checkpoint()
        return (time.perf_counter() - began) / _AT_ONCE * 1e3

    a, b = await in_turns(lambda: once(sealed, sealed_id), lambda: once(private, private_id), rounds)
    return _row("a host connects, sealed", "ms", a, b, goal=None, rounds=rounds)


async def _partial_messages(sealed: LocalProvider, private: LocalProvider, rounds: int) -> Row:
    same = options(partial=True)

    async def seconds(agent: HostedAgent) -> float:
        began = time.perf_counter()
        await agent.query(f"deltas {_DELTAS}")
        count = 0
        async for message in agent.receive_response():
            count += isinstance(message, StreamEvent)
        assert count >= _DELTAS, f"{count} events of {_DELTAS}"
        return time.perf_counter() - began

    async with HostedAgent(same, provider=sealed) as first, HostedAgent(same, provider=private) as second:
        a, b = await in_turns(lambda: seconds(first), lambda: seconds(second), rounds)
    return _row(f"a turn of {_DELTAS:,} partial messages, sealed", "s", a, b, goal=1.1, rounds=rounds)


def _row(name: str, unit: str, ours: float, private: float, *, goal: float | None, rounds: int) -> Row:
    return Row(
        group="link", name=name, unit=unit, ours=ours, baseline=private, baseline_name="private socket",
        goal=goal, rounds=rounds,
    )  # fmt: skip
