"""A sandbox of E2B that is paused stays so until it is resumed, and goes on then: its agents with it."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest
from claude_agent_sdk import PermissionResultAllow, ResultMessage
from support.hosting import KEY, allow
from support.waiting import until

from agenthost import AgentRef, Cursor, HostedAgent
from agenthost.errors import SandboxGoneError, SandboxPausedError
from agenthost.link.client import GuestSandbox
from agenthost.providers.e2b.backend import E2BBackend
from agenthost.providers.e2b.provider import E2BProvider
from agenthost.reaping import reap
from agenthost.spec import SandboxSpec
from agenthost.testing import FakeCLI
from agenthost.testing.conformance.streams import read_line
from agenthost.testing.emulators.e2b import Emulator

LIMIT = 120  # seconds for what has to happen; nothing waits that long


def backend_of(box: GuestSandbox) -> E2BBackend:
    assert isinstance(box.backend, E2BBackend)
    return box.backend


async def test_a_paused_sandbox_has_no_lease_to_be_moved_and_gets_it_back_when_it_is_resumed(
    provider: E2BProvider, e2b: Emulator
) -> None:
    box = await provider.create(SandboxSpec(lease=300, max_lifetime=600))
    try:
        await backend_of(box).pause()
        with pytest.raises(SandboxPausedError):
            await backend_of(box).extend(300)
        await backend_of(box).resume()
        assert e2b.box(box.id).end_at - time.time() <= 300
        await backend_of(box).extend(450)
        assert 440 < e2b.box(box.id).end_at - time.time() <= 450
    finally:
        await box.terminate()


async def test_the_end_of_a_paused_sandbox_is_its_lifetimes_and_its_making_stays_when_it_was(
    provider: E2BProvider, e2b: Emulator, box: GuestSandbox
) -> None:
    before = await box.info()
    assert before.expires_at is not None
    await backend_of(box).pause()
    made = e2b.box(box.id)
    made.started_at, made.end_at = made.started_at - 3000, made.end_at - 3000  # as if it was long ago
    (paused,) = [info async for info in provider.list()]
    assert paused.expires_at is not None
    assert abs(paused.expires_at - before.expires_at) < 10
    await backend_of(box).resume()
    made.started_at += 1000
    assert (await box.info()).created_at == before.created_at


async def test_reaping_keeps_a_paused_sandbox_whose_lifetime_is_not_over(
    provider: E2BProvider, e2b: Emulator, box: GuestSandbox
) -> None:
    await backend_of(box).pause()
    made = e2b.box(box.id)
    made.end_at -= 3000  # paused long ago
    made.metadata["agenthost-owner"] = "somebody-elses"
    (kept,) = await reap(provider)
    assert (kept.outcome, kept.reason) == ("kept", "its owner is not known here")
    made.metadata["agenthost-end"] = str(int(time.time()) - 300)
    (gone,) = await reap(provider)
    assert (gone.outcome, gone.reason) == ("reaped", "its end is over")
    assert e2b.boxes.all == {}


async def test_a_paused_sandbox_stays_so_until_it_is_resumed_and_is_then_the_same(
    provider: E2BProvider, e2b: Emulator
) -> None:
    box = await provider.create(SandboxSpec())
    try:
        await box.write_file("mark", b"the same")
        async with E2BProvider(**e2b.options) as other:
            await backend_of(box).pause()
            await backend_of(box).pause()
            with anyio.fail_after(LIMIT):
                for _ in range(2):  # who tries again learns the same
                    with pytest.raises(SandboxPausedError):
                        await box.exec(["true"])
                with pytest.raises(SandboxPausedError):
                    await other.get(box.id)
            assert (await box.info()).state == "paused"
            assert [info.state async for info in other.list()] == ["paused"]
            assert e2b.box(box.id).state == "paused"  # nothing of this has woken it up
            await backend_of(box).resume()
            await backend_of(box).resume()
            with anyio.fail_after(LIMIT):
                again = await other.get(box.id)
                assert await again.read_file("mark") == b"the same"
                assert await box.read_file("mark") == b"the same"  # over a new link
    finally:
        await box.terminate()


async def test_a_program_that_was_under_way_does_not_run_on_without_its_caller(box: GuestSandbox) -> None:
    pid = ""
    with anyio.fail_after(LIMIT):
        with pytest.raises(SandboxPausedError):
            async with box.spawn(["sh", "-c", "echo $$; exec sleep 98765"]) as program:
                pid = (await read_line(program)).decode().strip()
                await backend_of(box).pause()
                await program.wait()
        await backend_of(box).resume()
        # By itself the guest forgets a link that does not come back after ten minutes.
        await until(lambda: box.exec(["sh", "-c", f"kill -0 {pid}"]), lambda done: done.exit_code != 0)


async def test_one_that_was_ended_while_it_was_paused_is_gone_and_nobody_dials_it(
    provider: E2BProvider, e2b: Emulator
) -> None:
    box = await provider.create(SandboxSpec())
    await backend_of(box).pause()
    with anyio.fail_after(LIMIT), pytest.raises(SandboxPausedError):
        await box.exec(["true"])
    await box.terminate()
    before = len(e2b.calls)
    for _ in range(2):
        with pytest.raises(SandboxGoneError):
            await box.exec(["true"])
    assert e2b.calls[before:] == []


async def test_an_agent_goes_on_with_its_turn_where_its_cursor_stands(
    box: GuestSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    numbers: list[int | None] = []

    async def pause(*_: object) -> PermissionResultAllow:
        await backend_of(box).pause()
        await anyio.sleep_forever()
        raise AssertionError

    options: dict[str, Any] = {"cli_path": await FakeCLI().put(box), "include_partial_messages": True}
    steps = [FakeCLI.partials(50), FakeCLI.tool("Bash", {"n": 1}, ask=True), FakeCLI.text("done")]
    ref: AgentRef | None = None
    cursor = Cursor()
    with anyio.fail_after(LIMIT):
        with pytest.raises(SandboxPausedError):
            async with HostedAgent({**options, "can_use_tool": pause}, sandbox=box) as agent:
                ref = agent.ref
                await agent.query(FakeCLI.prompt(*steps))
                async for message in agent.receive_messages():
                    numbers += [FakeCLI.number(message)]  # each by itself: in the end this raises
                    cursor = agent.cursor
        assert ref is not None
        await backend_of(box).resume()
        async with HostedAgent.attach(
            ref, sandbox=box, after=cursor, options={"can_use_tool": allow}
        ) as heir:
            async for message in heir.receive_messages():
                numbers.append(FakeCLI.number(message))
                if isinstance(message, ResultMessage):
                    break
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 50
