"""Tests of a program under pytest-asyncio; ``test_pytest_asyncio`` runs this file in a process of its own.

pytest-asyncio sets a fixture up in one task and takes it down in another.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is used beside asyncio's own functions
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agenthost import HostedAgent, Process, Sandbox, SandboxProvider, SandboxSpec, open_provider, prewarm
from agenthost.testing import FakeAgent, FakeCLI, FakeProvider, FakeSandbox, LinkFaults, ScriptedModel, Text
from agenthost.testing.emulators import cloudflare, daytona, e2b, modal, vercel

PLAIN = "local-unisolated"
LIMIT = 30.0


@pytest_asyncio.fixture
async def provider() -> AsyncGenerator[SandboxProvider]:
    async with open_provider(PLAIN) as provider:
        yield provider


@pytest_asyncio.fixture
async def sandbox(provider: SandboxProvider) -> AsyncGenerator[Sandbox]:
    sandbox = await provider.create(SandboxSpec())
    yield sandbox
    await sandbox.terminate()


@pytest_asyncio.fixture
async def process(sandbox: Sandbox) -> AsyncGenerator[Process]:
    async with sandbox.spawn(["cat"]) as process:
        yield process


@pytest_asyncio.fixture
async def model(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[ScriptedModel]:
    async with ScriptedModel([Text("Hello.")]) as model:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", model.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-the-host")
        yield model


@pytest_asyncio.fixture
async def agent(model: ScriptedModel, tmp_path: Path) -> AsyncGenerator[HostedAgent]:
    del model
    async with HostedAgent({"cli_path": FakeCLI().write(tmp_path / "claude")}, provider=PLAIN) as agent:
        yield agent


@pytest_asyncio.fixture(params=["e2b", "modal"])
async def at_a_cloud(request: pytest.FixtureRequest) -> AsyncGenerator[SandboxProvider]:
    emulator: Any = {"e2b": e2b, "modal": modal}[request.param].emulator(friendly=True)
    async with emulator as cloud, open_provider(request.param, **cloud.options) as provider:
        yield provider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_provider() -> AsyncGenerator[SandboxProvider]:
    provider = await open_provider(PLAIN).connect()
    yield provider
    await provider.aclose()


@pytest.mark.asyncio
async def test_a_program_runs(process: Process) -> None:
    await process.send_stdin(b"line\n")
    assert await process.receive_stdout() == b"line\n"


@pytest.mark.asyncio
async def test_an_agent_answers(agent: HostedAgent) -> None:
    await agent.query("hello")
    assert [message async for message in agent.receive_response()]


@pytest.mark.asyncio
async def test_a_cloud_is_opened(at_a_cloud: SandboxProvider) -> None:
    assert [info async for info in at_a_cloud.list()] == []


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("number", [1, 2])
async def test_a_provider_is_shared_by_tests(shared_provider: SandboxProvider, number: int) -> None:
    sandbox = await shared_provider.create(SandboxSpec())
    assert (await sandbox.exec(["echo", str(number)])).stdout == f"{number}\n".encode()
    await sandbox.terminate()


@asynccontextmanager
async def _fake_program() -> AsyncGenerator[None]:
    sandbox = FakeSandbox()
    sandbox.script("serve", lambda program: program.sleep(float("inf")))
    async with sandbox.spawn(["serve"]):
        yield


OPENED: dict[str, Callable[[], AbstractAsyncContextManager[Any]]] = {
    "provider": lambda: open_provider(PLAIN),
    "prewarmed": lambda: prewarm(PLAIN),
    "model": lambda: ScriptedModel([]),
    "cloudflare": lambda: cloudflare.emulator(friendly=True),
    "e2b": lambda: e2b.emulator(friendly=True),
    "modal": lambda: modal.emulator(friendly=True),
    "daytona": lambda: daytona.emulator(friendly=True),
    "vercel": lambda: vercel.emulator(friendly=True),
    "fake agent": lambda: FakeAgent([]),
    "fake provider": FakeProvider,
    "fake program": _fake_program,
    "link faults": LinkFaults,
}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", OPENED)
async def test_it_is_entered_and_left_within_a_time(name: str) -> None:
    context = OPENED[name]()
    # Before Python 3.12 wait_for runs what it waits for in another task.
    await asyncio.wait_for(context.__aenter__(), LIMIT)
    await asyncio.wait_for(context.__aexit__(None, None, None), LIMIT)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_a_provider_and_its_sandbox_are_opened_within_a_time() -> None:
    provider = await asyncio.wait_for(open_provider(PLAIN).connect(), LIMIT)
    sandbox = await asyncio.wait_for(provider.create(SandboxSpec()), LIMIT)
    result = await asyncio.wait_for(sandbox.exec(["echo", "here"]), LIMIT)
    assert result.stdout == b"here\n"
    await asyncio.wait_for(sandbox.terminate(), LIMIT)
    await asyncio.wait_for(provider.aclose(), LIMIT)
    assert asyncio.all_tasks() == {asyncio.current_task()}
