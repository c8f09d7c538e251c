"""The carriers beside each other: one sandbox each, reached by its socket, through a port, by a program."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

from agent_rows import environment, model_server, options
from claude_agent_sdk import StreamEvent
from measure import Row, in_turns

from agenthost import HostedAgent, SandboxSpec
from agenthost.link.carriers.command import open_command_carrier
from agenthost.link.carriers.http import HttpDialer
from agenthost.link.client import GuestSandbox
from agenthost.link.layout import GuestLayout
from agenthost.providers.local.backend import LocalBackend
from agenthost.providers.local.local_unisolated import UnisolatedProvider
from agenthost.sandbox import Backend, Boot, Carrier
from agenthost.supports import Endpoint

_FLOOD = 100 * 1024 * 1024
_DELTAS = 20_000
_CALLS = 50  # one after the other, for one figure

Dial = Callable[[], Awaitable[Carrier]]


class Dialled:
    """A backend that is dialled in another way. All else is as it was."""

    def __init__(self, inner: Backend, dial: Dial) -> None:
        self._inner = inner
        self.dial = dial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class OverPort(UnisolatedProvider):
    """``local-unisolated``, through a port on loopback. One sandbox at a time."""

    async def resolve(self, spec: SandboxSpec) -> SandboxSpec:
        """Choose a port."""
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            self._number: int = chosen.getsockname()[1]
        return spec

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        """Return the layout, with the port."""
        return replace(super().layout(spec), port=self._number, address="127.0.0.1")

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Make a sandbox."""
        inner = await super().make(spec, boot)
        url = f"http://127.0.0.1:{self._number}"

        async def endpoint() -> Endpoint:
            return Endpoint(url=url)

        dialer = HttpDialer(endpoint, guest_key=self.guest_key(await inner.info()))
        return cast("Backend", Dialled(inner, dialer.dial))


class OverStdio(UnisolatedProvider):
    """``local-unisolated``, by the ``dial`` program."""

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Make a sandbox."""
        inner = await super().make(spec, boot)
        assert isinstance(inner, LocalBackend)
        argv = [self.layout(spec).python, "-I", f"{inner.directory}/boot/guest.pyz", "dial"]
        argv += ["--socket", f"{inner.directory}/sock"]
        return cast("Backend", Dialled(inner, lambda: open_command_carrier(argv)))


async def rows(rounds: int) -> AsyncIterator[Row]:
    """Measure all."""
    for name, provider in (("http", OverPort()), ("stdio", OverStdio())):
        async with provider as ours, UnisolatedProvider() as direct:
            boxes = [await each.create(SandboxSpec()) for each in (ours, direct)]
            try:
                async for row in _of_sandboxes(name, boxes[0], boxes[1], rounds):
                    yield row
            finally:
                for box in boxes:
                    await box.terminate()
            with model_server() as url, tempfile.TemporaryDirectory() as home, environment(url, home):
                async for row in _of_agents(name, ours, direct, rounds):
                    yield row


async def _of_sandboxes(
    name: str, ours: GuestSandbox, direct: GuestSandbox, rounds: int
) -> AsyncIterator[Row]:
    async def calls(box: GuestSandbox) -> float:
        began = time.perf_counter()
        for _ in range(_CALLS):
            await box.session.call("about", {})
        return (time.perf_counter() - began) / _CALLS * 1e3

    async def flood(box: GuestSandbox) -> float:
        began = time.perf_counter()
        result = await box.exec(["head", "-c", str(_FLOOD), "/dev/zero"], max_output=_FLOOD)
        assert len(result.stdout) == _FLOOD
        return time.perf_counter() - began

    async def file(box: GuestSandbox) -> float:
        began = time.perf_counter()
        await box.write_file("big", bytes(_FLOOD))
        return time.perf_counter() - began

    a, b = await in_turns(lambda: calls(ours), lambda: calls(direct), rounds)
    yield _row(f"one call, {name}", "ms", a, b, rounds=rounds)
    a, b = await in_turns(lambda: flood(ours), lambda: flood(direct), rounds)
    yield _row(f"exec printing 100 MiB, {name}", "s", a, b, rounds=rounds)
    a, b = await in_turns(lambda: file(ours), lambda: file(direct), rounds)
    yield _row(f"write 100 MiB, {name}", "s", a, b, rounds=rounds)


async def _of_agents(
    name: str, ours: UnisolatedProvider, direct: UnisolatedProvider, rounds: int
) -> AsyncIterator[Row]:
    async def turn(agent: HostedAgent) -> float:
        began = time.perf_counter()
        await agent.query("hi")
        async for _ in agent.receive_response():
            pass
        return (time.perf_counter() - began) * 1e3

    async def rate(agent: HostedAgent) -> float:
        began = time.perf_counter()
        await agent.query(f"deltas {_DELTAS}")
        count = 0
        async for message in agent.receive_response():
            count += isinstance(message, StreamEvent)
        assert count >= _DELTAS, f"{count} events of {_DELTAS}"
        return count / (time.perf_counter() - began)

    same = options(partial=True)
    async with HostedAgent(same, provider=ours) as first, HostedAgent(same, provider=direct) as second:
        a, b = await in_turns(lambda: turn(first), lambda: turn(second), rounds * 3)
        yield _row(f"one turn on a live agent, {name}", "ms", a, b, goal=1.5, rounds=rounds * 3)
        a, b = await in_turns(lambda: rate(first), lambda: rate(second), max(1, rounds // 2))
    row = _row(f"a turn of {_DELTAS:,} partial messages, {name}", "events/s", a, b, goal=0.6, rounds=rounds)
    yield replace(row, higher_is_better=True)


def _row(name: str, unit: str, ours: float, direct: float, *, goal: float | None = None, rounds: int) -> Row:
    return Row(
        group="carriers", name=name, unit=unit, ours=ours, baseline=direct, baseline_name="socket",
        goal=goal, rounds=rounds,
    )  # fmt: skip
