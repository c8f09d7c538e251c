"""What is inside does not decide how long the host waits, and a clock that is set ends nothing."""
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from redteam.hostile_guest import Frame, Frames, HostileGuest, answered
from support.hosting import give_key

from agenthost import HostedAgent, Limits, SandboxSpec, open_provider, owners
from agenthost.agent import hosted
from agenthost.errors import CallTimeoutError, OutcomeUnknownError
from agenthost.link.answers import Patience
from agenthost.link.client import GuestSandbox
from agenthost.owned import hand_on
from agenthost.providers.local import backend, ending, engine, state
from agenthost.providers.local.keeper.removal import remove_all
from agenthost.reaping import reap
from agenthost.testing import FakeCLI
from agenthost.threads import in_thread

LIMIT = 60
SHORT = 0.2  # seconds of a deadline that is waited for
LONG = 1.0  # and what is taken for ever beside it
PLAIN = "local-unisolated"
YEAR = 365 * 24 * 3600.0

attack, control = pytest.mark.attack, pytest.mark.control
HANGS = "have the host wait for ever"
STAYS = "have files stay, or the host wait for their removal"
ENDS_OTHERS = "have a sandbox ended before its end"

CONTROLS: list[Callable[[HostedAgent], Awaitable[object]]] = [
    lambda agent: agent.interrupt(),
    lambda agent: agent.get_mcp_status(),
    lambda agent: agent.set_model("claude-opus-4-1"),
    lambda agent: agent.set_permission_mode("plan"),
    lambda agent: agent.get_context_usage(),
]


async def hangs(call: Callable[[], Awaitable[object]]) -> bool:
    """Return whether a call is still under way when every deadline of the test is long over."""
    with anyio.move_on_after(LONG) as scope:
        await call()
    return scope.cancelled_caught


# ---- calls


async def stopped_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge: Callable[[HostedAgent], Awaitable[None]]
) -> None:
    """Judge an agent whose runner has been stopped."""
    give_key(monkeypatch)
    fake = FakeCLI([FakeCLI.text("Hello.")])
    limits = Limits(call_timeout=SHORT, close=SHORT)
    with anyio.fail_after(LIMIT):
        async with HostedAgent(
            {"cli_path": fake.write(tmp_path / "claude")}, provider=PLAIN, limits=limits
        ) as agent:
            sandbox = agent.sandbox
            assert isinstance(sandbox, GuestSandbox)
            (runner,) = await sandbox.agents()
            os.kill(runner.pid, signal.SIGSTOP)
            await judge(agent)


@attack(HANGS, "a runner that is stopped")
async def test_every_control_method_of_a_stopped_runner_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def judge(agent: HostedAgent) -> None:
        for call in CONTROLS:
            with pytest.raises(CallTimeoutError, match="leave the block"):
                await call(agent)

    await stopped_runner(tmp_path, monkeypatch, judge)


@pytest.mark.full
@control("a runner that is stopped")
async def test_without_the_deadline_a_control_method_waits_for_a_stopped_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted, "anyio", SimpleNamespace(fail_after=lambda _seconds: anyio.CancelScope()))

    async def judge(agent: HostedAgent) -> None:
        assert await hangs(agent.interrupt)

    await stopped_runner(tmp_path, monkeypatch, judge)


def silent(_call: Frame) -> Frames:
    """Answer no call. The guest goes on to answer pings."""
    return ()


async def wait_for_ever(self: Any, wait: Callable[[], Awaitable[object]], *_: Any) -> None:  # noqa: ARG001
    await wait()


CALLS: list[Callable[[GuestSandbox], Awaitable[object]]] = [
    lambda sandbox: sandbox.agents(),
    lambda sandbox: sandbox.kept_for(),
    lambda sandbox: sandbox.keep_for(5),
    lambda sandbox: sandbox.write_file("a", b"b"),
    lambda sandbox: sandbox.read_file("a"),
]


@attack(HANGS, "a guest that answers pings and no calls")
async def test_a_call_that_is_not_answered_is_an_error() -> None:
    async with HostileGuest(silent).sandbox(call_timeout=SHORT) as sandbox:
        for call in CALLS:
            with anyio.fail_after(LIMIT), pytest.raises(OutcomeUnknownError, match="end the sandbox"):
                await call(sandbox)


@control("a guest that answers pings and no calls")
async def test_without_the_deadline_a_call_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patience, "bounded", wait_for_ever)
    async with HostileGuest(silent).sandbox(call_timeout=SHORT) as sandbox:
        assert await hangs(lambda: sandbox.agents())


def opens_only(call: Frame) -> Frames:
    """Say that a file has 1 MB, of which nothing comes."""
    yield answered(call, {"size": 1_000_000})


@attack(HANGS, "a file of which no byte comes")
async def test_a_file_that_stands_still_is_an_error() -> None:
    async with HostileGuest(opens_only).sandbox(call_timeout=SHORT) as sandbox:
        with anyio.fail_after(LIMIT):
            with pytest.raises(OutcomeUnknownError):
                await sandbox.read_file("a")
            with pytest.raises(OutcomeUnknownError):
                async with sandbox.open_file("a") as file:
                    await file.receive()


@control("a file of which no byte comes")
async def test_without_the_deadline_a_file_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patience, "bounded", wait_for_ever)
    async with HostileGuest(opens_only).sandbox(call_timeout=SHORT) as sandbox:
        assert await hangs(lambda: sandbox.read_file("a"))


# ---- files that are left


class Removal:
    """The removal of a sandbox's files, as slow as one of millions of files."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()

    async def until_begun(self) -> None:
        """Return when a thread is at it."""
        while not self.begun.is_set():  # noqa: ASYNC110 - a thread sets it
            await anyio.sleep(0.005)


@pytest.fixture
def removal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Removal]:
    """Let no removal end before it may."""
    found, real = Removal(), remove_all

    def remove(directory: str) -> None:
        found.begun.set()
        found.may_end.wait(LIMIT)
        real(directory)

    monkeypatch.setattr(ending, "remove_all", remove)
    monkeypatch.setattr(ending, "_REMOVING_SECONDS", SHORT)
    yield found
    found.may_end.set()


async def sandbox_of_a_dead_keeper(provider: Any) -> GuestSandbox:
    """Make a sandbox whose keeper has been killed: what is left of it is the host's to remove."""
    sandbox: GuestSandbox = await provider.create(SandboxSpec(name="many-files"))
    assert isinstance(sandbox.backend, backend.LocalBackend)
    os.kill(sandbox.backend._record.keeper, signal.SIGKILL)  # noqa: SLF001 - told nowhere else
    while state.is_alive(sandbox.backend.directory):  # noqa: ASYNC110 - the kernel tells of it by a lock
        await anyio.sleep(0.005)
    return sandbox


def left_of(tmp_path: Path) -> list[str]:
    return [entry.name for entry in (tmp_path / PLAIN).iterdir()]


@attack(STAYS, "more files than can be removed in time")
async def test_ending_a_sandbox_waits_for_its_processes_and_not_for_its_files(
    tmp_path: Path, removal: Removal
) -> None:
    with anyio.fail_after(LIMIT):
        async with open_provider(PLAIN, state_dir=str(tmp_path)) as provider:
            sandbox = await sandbox_of_a_dead_keeper(provider)
            await sandbox.terminate()
            assert removal.begun.is_set()
            assert not removal.may_end.is_set()
            assert not (tmp_path / PLAIN / "many-files").exists(), "its name is not free"
            removal.may_end.set()
            while left_of(tmp_path):
                assert [info async for info in provider.list()] == []


@control("more files than can be removed in time")
async def test_without_the_bound_the_end_of_a_sandbox_waits_for_its_files(
    tmp_path: Path, removal: Removal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def remove(directory: str) -> None:
        for gone in state.ended_entries(str(Path(directory).parent)):
            await in_thread(partial(ending.remove_ended, gone), abandon=True)

    monkeypatch.setattr(ending, "_remove", remove)
    with anyio.fail_after(LIMIT):
        async with open_provider(PLAIN, state_dir=str(tmp_path)) as provider:
            sandbox = await sandbox_of_a_dead_keeper(provider)
            assert await hangs(sandbox.terminate)
            removal.may_end.set()
            while left_of(tmp_path):
                [info async for info in provider.list()]


async def cancelled_list(tmp_path: Path, removal: Removal) -> bool:
    """Cancel a list while it removes what is left; return whether that has ended the list."""
    is_over, has_ended = anyio.Event(), False
    with anyio.fail_after(LIMIT):
        async with (
            open_provider(PLAIN, state_dir=str(tmp_path)) as provider,
            anyio.create_task_group() as tasks,
        ):
            await sandbox_of_a_dead_keeper(provider)
            scope = anyio.CancelScope()

            async def look() -> None:
                with scope:
                    [info async for info in provider.list()]
                is_over.set()

            tasks.start_soon(look)
            await removal.until_begun()
            scope.cancel()
            has_ended = not await hangs(is_over.wait)
            removal.may_end.set()
            await is_over.wait()
            while left_of(tmp_path):
                [info async for info in provider.list()]
    return has_ended


@attack(STAYS, "files that hold up a list of the sandboxes")
async def test_a_list_can_be_cancelled_while_it_removes_what_is_left(
    tmp_path: Path, removal: Removal
) -> None:
    assert await cancelled_list(tmp_path, removal)


@control("files that hold up a list of the sandboxes")
async def test_without_leaving_the_removal_alone_a_list_is_not_cancelled(
    tmp_path: Path, removal: Removal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "in_thread", lambda function, **_: in_thread(function))
    assert not await cancelled_list(tmp_path, removal)


# ---- clocks


async def reaped_after_a_jump(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Hand a sandbox on, set the clock a year forward, and return the ids of what is reaped."""
    monkeypatch.setenv("AGENTHOST_STATE_DIR", str(tmp_path))
    with anyio.fail_after(LIMIT):
        async with open_provider(PLAIN) as provider:
            sandbox = await provider.create(SandboxSpec(max_lifetime=600))
            try:
                hand_on(sandbox.provider, sandbox.id)
                now = time.time
                monkeypatch.setattr(time, "time", lambda: now() + YEAR)
                left = ((await sandbox.info()).expires_at or 0) - time.time()
                found = await reap(provider, dry_run=True)
                assert [one.info.id for one in found] == [sandbox.id]
                return [one.info.id for one in found if one.outcome == "reaped" or left < 0]
            finally:
                await sandbox.terminate()


@attack(ENDS_OTHERS, "a clock that is set forward")
async def test_a_clock_that_is_set_forward_has_nothing_reaped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert await reaped_after_a_jump(monkeypatch, tmp_path) == []


@control("a clock that is set forward")
async def test_with_the_wall_clock_alone_a_living_sandbox_is_reaped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(owners.Note, "now", lambda _self: time.time())
    monkeypatch.setattr(backend, "_expires_at", lambda record: record.expires_at)
    assert len(await reaped_after_a_jump(monkeypatch, tmp_path)) == 1
