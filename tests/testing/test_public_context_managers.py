"""Agents, providers, sandboxes and programs in blocks that fail, are cancelled or are left elsewhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from support.hosting import give_key
from support.lent import Lent
from testing.blocks import (
    Context,
    context_managers,
    ends_when_cancelled,
    is_left_in_another_task,
    passes_an_exception_on,
)

import agenthost
from agenthost import HostedAgent, SandboxSpec, open_provider, prewarm
from agenthost.adapter.on_sandbox import guest_on
from agenthost.adapter.rest import RestClient
from agenthost.background import BackgroundTasks
from agenthost.link.client import GuestSandbox
from agenthost.testing import FakeCLI
from agenthost.testing.loopback import Exchange, LoopbackServer

LIMIT = 60
PLAIN = "local-unisolated"


@pytest.fixture(autouse=True)
def key_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this host a key; nothing listens at its address."""
    give_key(monkeypatch)


def _agent(directory: Path) -> HostedAgent:
    return HostedAgent({"cli_path": FakeCLI().write(directory / "claude")}, provider=PLAIN)


@asynccontextmanager
async def _attached_agent(directory: Path) -> AsyncGenerator[None]:
    first = _agent(directory)
    await first.connect()
    async with HostedAgent.attach(await first.detach(keep_for=60)):
        yield


@asynccontextmanager
async def _observed_agent(directory: Path) -> AsyncGenerator[None]:
    async with _agent(directory) as agent, HostedAgent.attach(agent.ref, role="observer"):
        yield


@asynccontextmanager
async def _sandbox(directory: Path) -> AsyncGenerator[GuestSandbox]:
    del directory
    async with open_provider(PLAIN) as provider:
        sandbox = await provider.create(SandboxSpec())
        assert isinstance(sandbox, GuestSandbox)
        try:
            yield sandbox
        finally:
            with anyio.CancelScope(shield=True):
                await sandbox.terminate()


@asynccontextmanager
async def _program(directory: Path) -> AsyncGenerator[None]:
    async with _sandbox(directory) as sandbox, sandbox.spawn(["cat"]) as process:
        await process.send_stdin(b"line\n")
        yield


@asynccontextmanager
async def _open_file(directory: Path) -> AsyncGenerator[None]:
    async with _sandbox(directory) as sandbox:
        await sandbox.write_file("large", bytes(4 << 20))
        async with sandbox.open_file("large") as pieces:
            assert await anext(aiter(pieces))
            yield


@asynccontextmanager
async def _channels(directory: Path) -> AsyncGenerator[None]:
    async with _sandbox(directory) as sandbox, open_provider(PLAIN) as provider:
        reader = await provider.get(sandbox.id)  # a second reader needs a link of its own
        assert isinstance(reader, GuestSandbox)
        async with (
            sandbox.agent("a", argv=["sleep", "1000"], env={}, model=False),
            sandbox.drive_agent("a"),
            reader.observe_agent("a"),
        ):
            yield


@asynccontextmanager
async def _guest_in_a_lent_sandbox(directory: Path) -> AsyncGenerator[None]:
    async with _sandbox(directory) as sandbox, guest_on(Lent(sandbox)) as guest, guest.spawn(["cat"]):
        yield


@asynccontextmanager
async def _answer_that_goes_on(directory: Path) -> AsyncGenerator[None]:
    del directory

    async def answer(exchange: Exchange) -> None:
        await exchange.start(200, {})
        await exchange.write(b"the beginning")
        await anyio.sleep_forever()

    async with LoopbackServer(answer) as server:
        client = RestClient(server.url, lambda: ({}, {}))
        try:
            async with client.stream("GET", "/logs") as streamed:
                assert await anext(streamed.chunks) == b"the beginning"
                yield
        finally:
            with anyio.CancelScope(shield=True):
                await client.aclose()


# Each with the context managers that it enters, as they are called in the package.
OPENED: dict[str, tuple[Callable[[Path], Context], set[str]]] = {
    "an agent": (_agent, {"HostedAgent"}),
    "an agent that was attached to": (_attached_agent, set()),
    "an agent that is observed": (_observed_agent, set()),
    "a program": (_program, {"spawn"}),
    "an open file of a sandbox": (_open_file, {"open_file"}),
    "channels of an agent": (_channels, {"open_channel", "drive_agent", "observe_agent"}),
    "a guest in a lent sandbox": (_guest_in_a_lent_sandbox, {"guest_on"}),
    "a provider": (lambda _: open_provider(PLAIN), {"GuestProvider", "SandboxProvider"}),
    "a sandbox that was started ahead": (lambda _: prewarm(PLAIN), {"Prewarmed"}),
    "an answer that goes on": (_answer_that_goes_on, {"RestClient.stream"}),
    "background tasks": (lambda _: BackgroundTasks(), {"BackgroundTasks"}),
}
# Entered and left by one function of agenthost, in one task.
INTERNAL = {
    *("guest_of", "Place.open", "running", "one_off"),
    *(
        "HttpClient",
        "HttpClient.stream",
        "Engine.stream",
        "Calls.bounded",
        "BridgedCalls.bounded",
        "E2BVendor.calling",
    ),
}


each = pytest.mark.parametrize("name", OPENED)


@pytest.mark.full
@each
async def test_an_exception_of_the_block_arrives_as_it_is(tmp_path: Path, name: str) -> None:
    with anyio.fail_after(LIMIT):
        await passes_an_exception_on(OPENED[name][0](tmp_path))


@each
async def test_a_block_may_be_left_in_another_task(tmp_path: Path, name: str) -> None:
    with anyio.fail_after(LIMIT):
        await is_left_in_another_task(OPENED[name][0](tmp_path))


@pytest.mark.full
@each
async def test_a_block_that_is_cancelled_ends(tmp_path: Path, name: str) -> None:
    with anyio.fail_after(LIMIT):
        await ends_when_cancelled(OPENED[name][0](tmp_path))


def test_every_public_context_manager_of_agenthost_is_tried() -> None:
    public = {one for _, names in OPENED.values() for one in names}
    assert {name for _, name in context_managers(agenthost, _is_skipped)} == public | INTERNAL


def _is_skipped(module: str) -> bool:
    """Leave out the command, what has a test of its own, and programs that run when they are imported."""
    return module.startswith(("agenthost.cli", "agenthost.testing")) or module.endswith("__main__")
