"""What ``agenthost.testing`` opens passes an exception of its block on, and may be left in another task."""

from __future__ import annotations

import importlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import pytest
from testing.blocks import (
    context_managers,
    ends_when_cancelled,
    is_left_in_another_task,
    passes_an_exception_on,
)

import agenthost.testing
from agenthost import open_provider
from agenthost.background import BackgroundTasks
from agenthost.errors import UnsupportedError
from agenthost.spec import SandboxSpec
from agenthost.testing import Edge, FakeAgent, FakeProvider, FakeSandbox, Hold, LinkFaults, ScriptedModel
from agenthost.testing.emulators import cloudflare, daytona, e2b, fly, modal, vercel
from agenthost.testing.emulators.base.faults import Faults
from agenthost.testing.emulators.base.machines import Account, Machines
from agenthost.testing.emulators.cloudflare.worker import running_worker
from agenthost.testing.loopback import Exchange, LoopbackServer


@asynccontextmanager
async def _asked(url: str) -> AsyncGenerator[None]:
    """Have a request on its way whose answer does not come."""
    port = int(url.rpartition(":")[2])
    body = b'{"model": "claude-x", "messages": []}'
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(
            b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        yield


@asynccontextmanager
async def _busy_server() -> AsyncGenerator[None]:
    reached = anyio.Event()

    async def hold(exchange: Exchange) -> None:
        del exchange
        reached.set()
        await anyio.sleep_forever()

    async with LoopbackServer(hold) as server, _asked(server.url):
        await reached.wait()
        yield


@asynccontextmanager
async def _busy_edge() -> AsyncGenerator[None]:
    reached = anyio.Event()

    async def hold(exchange: Exchange) -> None:
        del exchange
        reached.set()
        await anyio.sleep_forever()

    async with LoopbackServer(hold) as upstream, Edge() as edge, edge.serve(upstream.url) as url, _asked(url):
        await reached.wait()
        yield


@asynccontextmanager
async def _busy_model() -> AsyncGenerator[None]:
    reached = anyio.Event()

    def step(request: object) -> Hold:
        del request
        reached.set()
        return Hold(anyio.Event())

    async with ScriptedModel([step]) as model, _asked(model.url):
        await reached.wait()
        yield


@asynccontextmanager
async def _busy_machines() -> AsyncGenerator[None]:
    async with Machines(Account("user", 1000, "/home/user")) as machines:
        machine = await machines.make(workdir="/workspace", network=False)
        await machine.start(["sleep", "1000"])
        yield


@asynccontextmanager
async def _busy_program() -> AsyncGenerator[None]:
    sandbox = FakeSandbox()
    sandbox.script("serve", lambda program: program.sleep(float("inf")))
    async with sandbox.spawn(["serve"]):
        yield


@asynccontextmanager
async def _connected_provider() -> AsyncGenerator[None]:
    provider = await open_provider("local").connect()
    try:
        yield
    finally:
        await provider.aclose()


@asynccontextmanager
async def _faulty_provider() -> AsyncGenerator[None]:
    async with LinkFaults() as faults, faults.around(_local()) as provider:
        sandbox = await provider.create(SandboxSpec())
        try:
            yield
        finally:
            await sandbox.terminate()


def _local() -> Any:
    return importlib.import_module("agenthost.providers.local.provider").LocalProvider()


# By what is found in the package; a few more stand for it when it is in use.
OPENED: dict[str, Callable[[], AbstractAsyncContextManager[Any]]] = {
    "edge.Edge": Edge,
    "edge.Edge.serve": _busy_edge,
    "emulators.cloudflare.emulator.emulator": cloudflare.emulator,
    "emulators.cloudflare.worker.running_worker": lambda: running_worker("http://127.0.0.1:9", "key"),
    "emulators.e2b.emulator.emulator": e2b.emulator,
    "emulators.fly.emulator.emulator": fly.emulator,
    "emulators.base.machines.Machines": lambda: Machines(Account("user", 1000, "/home/user")),
    "emulators.modal.emulator.emulator": modal.emulator,
    "emulators.daytona.emulator.emulator": daytona.emulator,
    "emulators.vercel.emulator.emulator": vercel.emulator,
    "emulators.base.faults.Faults.hold": lambda: Faults().hold("SandboxCreateV2"),
    "fake_agent.FakeAgent": FakeAgent,
    "fake_process.playing": _busy_program,  # by what uses it
    "fake_provider.FakeProvider": FakeProvider,
    "fake_sandbox.FakeSandbox.spawn": _busy_program,
    "faults.LinkFaults": LinkFaults,
    "loopback.LoopbackServer": _busy_server,
    "scripted_model.ScriptedModel": ScriptedModel,
}
IN_USE: dict[str, Callable[[], AbstractAsyncContextManager[Any]]] = {
    "background tasks": BackgroundTasks,
    "a machine with a program": _busy_machines,
    "a model that is asked": _busy_model,
    "a provider that is connected": _connected_provider,
    "a provider": lambda: open_provider("local"),
    "a provider with faults": _faulty_provider,
}
EVERY = {**OPENED, **IN_USE}


# The emulator of Modal works where Modal's client does.
PAIRS = [
    (loop, name)
    for loop in ("asyncio", "trio")
    for name in EVERY
    if loop == "asyncio" or "modal.e" not in name
]
each = pytest.mark.parametrize(("anyio_backend", "name"), PAIRS)


@each
async def test_an_exception_of_the_block_arrives_as_it_is(anyio_backend: str, name: str) -> None:
    del anyio_backend
    await passes_an_exception_on(EVERY[name]())


@each
async def test_a_block_may_be_left_in_another_task(anyio_backend: str, name: str) -> None:
    del anyio_backend
    await is_left_in_another_task(EVERY[name]())


@each
async def test_a_block_that_is_cancelled_ends(anyio_backend: str, name: str) -> None:
    del anyio_backend
    await ends_when_cancelled(EVERY[name]())


class TaskError(BaseException):
    """What a task raises: as a failure of pytest, it is not an Exception."""


async def fail() -> None:
    raise TaskError


async def test_what_a_background_task_raises_ends_the_others_and_arrives_at_the_end_of_the_block() -> None:
    ended = anyio.Event()

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    with pytest.raises(TaskError):
        async with BackgroundTasks() as tasks:
            tasks.start_soon(wait)
            tasks.start_soon(fail)
            await ended.wait()


async def test_background_tasks_are_opened_once_and_start_nothing_when_they_are_closed() -> None:
    tasks = BackgroundTasks()
    await tasks.aclose()
    with pytest.raises(RuntimeError, match="not open"):
        tasks.start_soon(fail)
    async with tasks:
        with pytest.raises(RuntimeError, match="opened already"):
            await tasks.open()
    await tasks.aclose()
    with pytest.raises(RuntimeError, match="not open"):
        tasks.start_soon(fail)


def test_the_emulator_of_modal_refuses_trio() -> None:
    async def main() -> None:
        async with modal.emulator():
            raise AssertionError("it was opened")

    with pytest.raises(UnsupportedError, match="works on asyncio"):
        anyio.run(main, backend="trio")


def test_every_async_context_manager_of_the_package_is_tried() -> None:
    found = context_managers(agenthost.testing, _is_skipped)
    start = len("agenthost.testing.")
    assert set(OPENED) == {f"{module[start:]}.{name}" for module, name in found}


def _is_skipped(module: str) -> bool:
    """Leave out the checks, which are not opened, and a program of its own."""
    return module.startswith(("agenthost.testing.conformance", "agenthost.testing.fake_program."))
