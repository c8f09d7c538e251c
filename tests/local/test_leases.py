"""A leased sandbox ends when nobody renews its lease, and lives as long as somebody does."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from support.hosting import KEY, sandboxes_of, scripted
from support.waiting import until

from agenthost import HostedAgent, SandboxSpec, open_provider
from agenthost.errors import SandboxGoneError
from agenthost.supports import SupportsLease
from agenthost.testing import Hold, ModelRequest, Text

LIMIT = 60
PLAIN = "local-unisolated"


@pytest.mark.parametrize("name", ["local", pytest.param(PLAIN, marks=pytest.mark.full)])
async def test_a_lease_that_nobody_renews_ends_the_sandbox_and_says_so(name: str) -> None:
    with anyio.fail_after(LIMIT):
        async with open_provider(name) as provider:
            sandbox = await provider.create(SandboxSpec(lease=8))
            await until(lambda: sandboxes_of(name), lambda there: sandbox.id not in there)
            with pytest.raises(SandboxGoneError, match="its lease was not renewed"):
                await sandbox.exec(["true"])


async def test_a_renewed_lease_moves_the_end_and_never_beyond_the_lifetime() -> None:
    with anyio.fail_after(LIMIT):
        async with open_provider(PLAIN) as provider:
            sandbox: Any = await provider.create(SandboxSpec(lease=20, max_lifetime=100))
            assert isinstance(sandbox.backend, SupportsLease)
            first = (await sandbox.info()).expires_at
            await sandbox.backend.extend(50)
            second = (await sandbox.info()).expires_at
            await sandbox.backend.extend(500)
            third = (await sandbox.info()).expires_at
            await sandbox.terminate()
            with pytest.raises(SandboxGoneError):
                await sandbox.backend.extend(50)
    assert first < second < third
    assert third - first < 100


async def test_a_sandbox_without_a_lease_gets_none_by_being_extended() -> None:
    with anyio.fail_after(LIMIT):
        async with open_provider(PLAIN) as provider:
            sandbox: Any = await provider.create(SandboxSpec(max_lifetime=100))
            before = (await sandbox.info()).expires_at
            await sandbox.backend.extend(1)
            assert (await sandbox.info()).expires_at == before
            await sandbox.terminate()


async def test_an_agent_that_works_keeps_its_leased_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    gate = anyio.Event()

    def answer(_: ModelRequest) -> list[Any]:
        return [Hold(gate), Text("Done.")]

    with anyio.fail_after(LIMIT):
        async with (
            scripted(monkeypatch, answer),
            HostedAgent({}, provider=PLAIN, spec=SandboxSpec(lease=10)) as agent,
        ):
            sandbox: Any = agent.sandbox
            end = (await sandbox.info()).expires_at
            await agent.query("go")
            await until(sandbox.info, lambda info: info.expires_at > end + 1)
            gate.set()
            messages: list[Any] = [message async for message in agent.receive_response()]
            assert messages[-1].result == "Done."
