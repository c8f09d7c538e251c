"""The link under faults: what is cut goes on, what cannot go on is a typed error, nothing is done twice."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from guest.model_agent import script_agent
from link.faulty_provider import FaultyProvider
from support.inside import living
from support.waiting import until, until_true

from agenthost.errors import (
    AgentHostError,
    LinkError,
    LinkLostError,
    ProviderError,
    SandboxGoneError,
    SandboxNotFoundError,
)
from agenthost.link.client import GuestSandbox
from agenthost.providers.local.backend import LocalBackend
from agenthost.providers.local.keeper.tree import descendants_of
from agenthost.providers.local.provider import LocalProvider
from agenthost.spec import Limits, SandboxSpec
from agenthost.wire.settings import WireSettings

SECONDS = 60.0  # until a test is taken to hang
MIB = 1024 * 1024


@pytest.fixture
async def faulty() -> AsyncIterator[FaultyProvider]:
    """Give a provider with faults, none planned."""
    async with FaultyProvider() as provider:
        yield provider


@pytest.fixture
async def cut_box(faulty: FaultyProvider, box: GuestSandbox) -> GuestSandbox:
    """Give the module's sandbox over a link that the test may cut."""
    return await faulty.get(box.id)


@pytest.mark.parametrize("seed", range(3))
async def test_a_flood_survives_cuts_byte_for_byte(
    faulty: FaultyProvider, cut_box: GuestSandbox, seed: int
) -> None:
    program = "import sys\nfor n in range(8): sys.stdout.buffer.write(bytes([n, 7]) * 524288)"
    expected = b"".join(bytes([n, 7]) * 524288 for n in range(8))
    faulty.faults.cut_at_random(seed, most=2 * MIB, directions="down")
    faulty.faults.cut()
    before = faulty.faults.dialled
    with anyio.fail_after(SECONDS):
        result = await cut_box.exec(["python3", "-c", program])
    assert result.stdout == expected
    assert faulty.faults.dialled > before + 2


@pytest.mark.parametrize("seed", range(3))
async def test_both_directions_survive_cuts_byte_for_byte(
    faulty: FaultyProvider, cut_box: GuestSandbox, seed: int
) -> None:
    data = hashlib.shake_256(bytes([seed])).digest(3 * MIB)
    faulty.faults.cut_at_random(seed, most=MIB)
    got: list[bytes] = []
    with anyio.fail_after(SECONDS):
        async with cut_box.spawn(["cat"]) as process, anyio.create_task_group() as tasks:

            async def feed() -> None:
                for start in range(0, len(data), 50_000):
                    await process.send_stdin(data[start : start + 50_000])
                await process.close_stdin()

            tasks.start_soon(feed)
            faulty.faults.cut()
            while piece := await process.receive_stdout():
                got.append(piece)
            assert await process.wait() == 0
    assert b"".join(got) == data


@pytest.mark.parametrize("seed", range(3))
async def test_files_survive_cuts(faulty: FaultyProvider, cut_box: GuestSandbox, seed: int) -> None:
    data = hashlib.shake_256(bytes([seed])).digest(4 * MIB)
    faulty.faults.cut_at_random(seed, most=2 * MIB)
    faulty.faults.cut()
    with anyio.fail_after(SECONDS):
        for size in (0, 100, 40_000, len(data)):
            await cut_box.write_file("cut/file", data[:size])
            assert await cut_box.read_file("cut/file") == data[:size]
        assert (await cut_box.exec(["sh", "-c", "ls -A cut; rm -r cut"])).stdout == b"file\n"


@pytest.mark.parametrize("seed", range(3))
async def test_what_was_asked_for_is_done_once_although_answers_are_cut_away(
    faulty: FaultyProvider, cut_box: GuestSandbox, seed: int
) -> None:
    faulty.faults.cut_at_random(seed, most=3000)
    faulty.faults.cut()
    before = faulty.faults.dialled
    with anyio.fail_after(SECONDS):
        for number in range(20):
            result = await cut_box.exec(["sh", "-c", f"echo {number} >> log; echo done {number}"])
            assert result.stdout == b"done %d\n" % number
        faulty.faults.plan = lambda: (None, None)
        log = (await cut_box.exec(["sh", "-c", "cat log; rm log"])).stdout
    assert log == b"".join(b"%d\n" % number for number in range(20))
    assert faulty.faults.dialled > before + 3


@pytest.mark.parametrize("seed", range(3))
async def test_calls_at_once_during_cuts_each_get_their_own_answer(
    faulty: FaultyProvider, cut_box: GuestSandbox, seed: int
) -> None:
    seen: dict[int, tuple[int, bytes]] = {}

    async def one(number: int) -> None:
        stdin = b"%d" % number * 10_000
        result = await cut_box.exec(["sh", "-c", f"cat; echo {number} >> log; exit {number}"], stdin=stdin)
        seen[number] = (result.exit_code, result.stdout)

    faulty.faults.cut_at_random(seed, most=200_000)
    faulty.faults.cut()
    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            for number in range(25):
                tasks.start_soon(one, number)
        log = (await cut_box.exec(["sh", "-c", "sort -n log; rm log"])).stdout
    assert seen == {number: (number, b"%d" % number * 10_000) for number in range(25)}
    assert log.split() == [b"%d" % number for number in range(25)]


async def test_large_arguments_survive_cuts_and_start_once(
    faulty: FaultyProvider, cut_box: GuestSandbox
) -> None:
    arguments = [f"{number:099d}" for number in range(5_000)]
    faulty.faults.cut_at_random(1, most=300_000)
    with anyio.fail_after(SECONDS):
        for _ in range(4):
            faulty.faults.cut()
            result = await cut_box.exec(["sh", "-c", "echo $# >> log; echo ${4999}", "sh", *arguments])
            assert int(result.stdout) == 4998
        assert (await cut_box.exec(["sh", "-c", "cat log; rm log"])).stdout == b"5000\n" * 4


async def test_a_carrier_that_stays_half_open_is_displaced(
    faulty: FaultyProvider, cut_box: GuestSandbox
) -> None:
    """The host has closed it, the guest does not know: what it still sends there must not count."""
    faulty.faults.linger = True
    faulty.faults.cut_at_random(7, most=500_000)
    with anyio.fail_after(SECONDS):
        for _ in range(3):
            faulty.faults.cut()
            result = await cut_box.exec(
                ["sh", "-c", "cat /proc/cpuinfo > x; head -c 2000000 /dev/zero; rm x"]
            )
            assert result.stdout == bytes(2_000_000)


async def test_model_traffic_and_journal_survive_cuts(faulty: FaultyProvider, cut_box: GuestSandbox) -> None:
    script = """
connection = connect()
for number in range(5):
    tell(ask(connection, body=b"%d" % number * 100_000)[1])
"""
    faulty.faults.cut_at_random(3, most=200_000)
    with anyio.fail_after(SECONDS):
        async with script_agent(cut_box, script) as agent:
            for number in range(5):
                faulty.faults.cut()
                _, body = await agent.answer(b"answer " * 50_000 + b"%d" % number)
                assert body == b"%d" % number * 100_000
                assert await agent.told() == "answer " * 50_000 + str(number)


async def test_a_silent_carrier_is_given_up_and_the_link_goes_on(box: GuestSandbox) -> None:
    wire = WireSettings(ping_every=0.1, silence=0.3)
    with anyio.fail_after(SECONDS):
        async with FaultyProvider(wire=wire) as provider:
            sandbox = await provider.get(box.id)
            async with sandbox.spawn(["cat"]) as process:
                provider.faults.stall()
                await process.send_stdin(b"through\n")
                assert await process.receive_stdout() == b"through\n"
            assert provider.faults.dialled == 2


@pytest.mark.full
async def test_a_host_that_falls_silent_loses_its_carrier_and_keeps_its_link(box: GuestSandbox) -> None:
    """The guest waits 23 seconds for a sign of life."""
    wire = WireSettings(ping_every=1000.0, silence=1000.0)
    with anyio.fail_after(SECONDS):
        async with FaultyProvider(wire=wire) as provider:
            sandbox = await provider.get(box.id)
            async with sandbox.spawn(["cat"]) as process:
                provider.faults.stall()
                while provider.faults.dialled == 1:
                    with anyio.move_on_after(1.0):
                        await process.receive_stdout()
                await process.send_stdin(b"back\n")
                assert await process.receive_stdout() == b"back\n"


async def test_a_sandbox_that_cannot_be_reached_is_lost_after_the_budget_and_lives_on(
    box: GuestSandbox,
) -> None:
    with anyio.fail_after(SECONDS):
        async with FaultyProvider(limits=Limits(link_budget=0.5)) as provider:
            sandbox = await provider.get(box.id)
            provider.faults.refuse = True
            provider.faults.cut()
            with pytest.raises(LinkLostError, match=f"{box.name} could not be reached"):
                await sandbox.exec(["true"])
            with pytest.raises(LinkLostError):
                await sandbox.read_file("x")
            provider.faults.refuse = False
            assert (await (await provider.get(box.id)).exec(["echo", "alive"])).stdout == b"alive\n"


@pytest.mark.parametrize("trouble", [ProviderError("503"), TimeoutError(110, "no answer")])
async def test_a_provider_in_trouble_does_not_end_the_link(
    faulty: FaultyProvider, cut_box: GuestSandbox, trouble: Exception
) -> None:
    with anyio.fail_after(SECONDS):
        async with cut_box.spawn(["cat"]) as process:
            before = faulty.faults.dialled
            faulty.faults.trouble = trouble
            faulty.faults.cut()
            await until_true(lambda: faulty.faults.dialled >= before + 3)
            faulty.faults.trouble = None
            await process.send_stdin(b"on and on")
            assert await process.receive_stdout() == b"on and on"


async def test_an_adapters_defect_ends_the_link_and_nothing_else(
    faulty: FaultyProvider, cut_box: GuestSandbox
) -> None:
    sound = await faulty.get(cut_box.id)
    with anyio.fail_after(SECONDS):
        faulty.faults.trouble = ZeroDivisionError("a defect")
        faulty.faults.carriers[0].break_off()
        with pytest.raises(LinkError, match="ZeroDivisionError") as caught:
            await cut_box.exec(["sleep", "1000"], timeout=1000)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert (await sound.exec(["true"])).exit_code == 0


async def test_what_timed_out_while_the_link_was_down_is_killed_when_it_is_back(
    faulty: FaultyProvider, box: GuestSandbox, cut_box: GuestSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agenthost.link.process._KILLING", 0.3)
    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cut_box.exec, ["sleep", "74.1"])
            await until(lambda: living(box, "74.1"), lambda found: len(found) == 1)
            faulty.faults.refuse = True
            faulty.faults.cut()
            tasks.cancel_scope.cancel()
        # Killing it was given the time that it may take, and could not be told.
        assert len(await living(box, "74.1")) == 1
        faulty.faults.refuse = False
        await until(lambda: living(box, "74.1"), lambda found: not found)


async def test_another_machine_is_not_taken_for_the_sandbox(
    faulty: FaultyProvider, cut_box: GuestSandbox
) -> None:
    with anyio.fail_after(SECONDS):
        async with LocalProvider() as provider:
            other = await provider.create(SandboxSpec())
            try:
                faulty.faults.instead = other.backend
                faulty.faults.cut()
                with pytest.raises(SandboxGoneError, match="another machine"):
                    await cut_box.exec(["true"])
                assert (await other.exec(["true"])).exit_code == 0
            finally:
                await other.terminate()


async def raises_gone(asked: Callable[[], Awaitable[object]], seen: list[str]) -> None:
    """Take note that a wait ended as it must when its sandbox is gone."""
    try:
        await asked()
    except SandboxGoneError as exc:
        seen.append(str(exc))


CALLS: list[Callable[[GuestSandbox], Awaitable[object]]] = [
    lambda sandbox: sandbox.exec(["true"]),
    lambda sandbox: sandbox.exec(["true", "x" * 100_000]),
    lambda sandbox: sandbox.read_file("x"),
    lambda sandbox: sandbox.write_file("x", b""),
    lambda sandbox: sandbox.write_file("x", bytes(100_000)),
    lambda sandbox: sandbox.spawn(["true"]).__aenter__(),
    lambda sandbox: sandbox.agent("a", argv=["true"], env={}, model=False).__aenter__(),
    lambda sandbox: sandbox.drive_agent("a").__aenter__(),
]


def guest_of(sandbox: GuestSandbox) -> int:
    """Return the guest's process on the host; inside, nothing can kill it."""
    assert isinstance(sandbox.backend, LocalBackend)
    keeper = json.loads(Path(sandbox.backend.directory, "state.json").read_bytes())["keeper"]
    outer, guest = descendants_of(keeper)[:2]
    assert b"bwrap" in Path(f"/proc/{outer}/cmdline").read_bytes()
    return guest


@pytest.mark.parametrize("how", ["terminate", "guest", "elsewhere"])
async def test_whoever_waits_for_a_sandbox_that_ends_hears_that_it_is_gone(
    provider: LocalProvider, how: str
) -> None:
    seen: list[str] = []
    gone: list[str] = []
    script = """
tell("up")
connection = connect()
connection.request("GET", "/", headers={"x-api-key": KEY})
hear()
"""
    with anyio.fail_after(SECONDS):
        sandbox = await provider.create(SandboxSpec())
        try:
            async with (
                anyio.create_task_group() as tasks,
                sandbox.spawn(["cat"]) as process,
                script_agent(sandbox, script) as agent,
            ):
                await agent.told()
                exchange = await agent.next_exchange()
                await exchange.head()
                assert await exchange.receive() == b""

                async def until_gone() -> None:
                    await exchange.wait_gone()
                    gone.append("gone")

                async def flood() -> None:
                    while True:
                        await process.send_stdin(bytes(100_000))

                for asked in (
                    lambda: sandbox.exec(["sleep", "1000"]),
                    lambda: sandbox.exec(["sleep", "1000"], timeout=1000),
                    process.receive_stderr,
                    process.wait,
                    flood,
                    agent.channel.receive,
                    agent.channel.next_exchange,
                    agent.channel.wait,
                ):
                    tasks.start_soon(raises_gone, asked, seen)
                tasks.start_soon(until_gone)
                await anyio.wait_all_tasks_blocked()
                if how == "terminate":
                    await sandbox.terminate()
                elif how == "elsewhere":
                    async with LocalProvider() as another:
                        await (await another.get(sandbox.id)).terminate()
                else:
                    os.kill(guest_of(sandbox), signal.SIGKILL)
                await until_true(lambda: len(seen) >= 8)  # before the blocks are left
            assert gone == ["gone"]
            for call in CALLS:
                with pytest.raises(SandboxGoneError, match=sandbox.name):
                    await call(sandbox)
            with pytest.raises(SandboxNotFoundError):
                await provider.get(sandbox.id)
        finally:
            await sandbox.terminate()
            await sandbox.terminate()


async def test_two_hosts_have_links_of_their_own_to_one_sandbox(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with LocalProvider() as one, LocalProvider() as two:
            boxes = [box, await one.get(box.id), await two.get(box.id)]
            await boxes[1].write_file("shared", b"seen by all")
            async with boxes[1].spawn(["cat"]) as process:
                for sandbox in boxes:
                    assert await sandbox.read_file("shared") == b"seen by all"
                await process.send_stdin(b"x")
                assert await process.receive_stdout() == b"x"
            assert {sandbox.workdir for sandbox in boxes} == {box.workdir}
            await boxes[2].exec(["rm", "shared"])


async def test_a_cancelled_block_still_kills_what_was_started_in_it(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        with anyio.CancelScope() as scope:
            async with LocalProvider() as provider:
                sandbox = await provider.get(box.id)
                async with sandbox.spawn(["sleep", "74.3"]), anyio.create_task_group() as tasks:
                    tasks.start_soon(sandbox.exec, ["sleep", "74.3"])
                    await until(lambda: living(box, "74.3"), lambda found: len(found) == 2)
                    scope.cancel()
        assert scope.cancelled_caught
        assert await living(box, "74.3") == []


async def test_errors_are_agenthosts_own(box: GuestSandbox) -> None:
    """What a caller has to catch is one base class, besides the builtins of files and programs."""
    async with LocalProvider() as provider:
        sandbox = await provider.get(box.id)
    for call in CALLS:
        with pytest.raises(AgentHostError):
            await call(sandbox)
