"""The way to a guest at E2B: what is cut, stalled, renewed or closed loses nothing and leaves nothing."""

from __future__ import annotations

import asyncio  # noqa: TID251 - to see what the vendor's client leaves behind
import gc
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from support.boxes import COUNTED, count_through_cuts, own_box, send_through_a_stall

from agenthost.adapter import cloud
from agenthost.adapter.bootstrap import dial_command
from agenthost.adapter.dial_carrier import RENEW_SECONDS, DialCarrier
from agenthost.link.client import GuestSandbox
from agenthost.providers.e2b.backend import E2BBackend
from agenthost.providers.e2b.carrier import E2BCommand, open_command
from agenthost.providers.e2b.client import USER, E2BVendor
from agenthost.providers.e2b.provider import E2BProvider
from agenthost.providers.e2b.workarounds import Opening
from agenthost.spec import SandboxSpec
from agenthost.testing.emulators.e2b import Emulator, Fault
from agenthost.wire.settings import WireSettings

if TYPE_CHECKING:
    from e2b import AsyncSandbox

LIMIT = 120
KILL = "POST /process.Process/SendSignal"
START, INPUT = "POST /process.Process/Start", "POST /process.Process/StreamInput"
BOOT = "/home/user/.agenthost"


def dials(e2b: Emulator, sandbox_id: str) -> list[int]:
    """Return the numbers of the dial programs that run."""
    running = e2b.box(sandbox_id).programs.running.items()
    return [pid for pid, one in running if one.end is None and "dial" in str(one.config["args"])]


async def reached(e2b: Emulator, box: GuestSandbox) -> AsyncSandbox:
    """Return the vendor's handle of a sandbox."""
    vendor = E2BVendor(**e2b.options, domain=None)
    return await vendor.connect(await vendor.look_up(box.id))


@pytest.mark.full
async def test_no_program_of_the_link_has_a_limit_of_time(e2b: Emulator, box: GuestSandbox) -> None:
    e2b.limited.clear()
    before = e2b.calls.count(START)
    e2b.cut()
    await box.exec(["true"])
    assert e2b.calls.count(START) > before
    assert [call for call in e2b.limited if call in (START, INPUT)] == []


async def test_a_stream_that_is_cut_loses_nothing_and_repeats_nothing(
    e2b: Emulator, box: GuestSandbox
) -> None:
    assert await count_through_cuts(box, e2b, lambda: e2b.calls.count(START), within=LIMIT) == COUNTED


async def test_a_stream_that_stalls_is_given_up_and_another_one_goes_on(e2b: Emulator) -> None:
    class Impatient(E2BProvider):
        wire = WireSettings(ping_every=0.5, silence=2.0)

    async with Impatient(**e2b.options) as provider, own_box(provider) as box:
        assert (
            await send_through_a_stall(box, e2b, lambda: e2b.calls.count(START), within=LIMIT) == b"through"
        )


async def test_a_program_that_says_nothing_for_long_is_not_lost(e2b: Emulator) -> None:
    # Many times the silence after which a link is given up; and the pings of both ends keep it.
    class Impatient(E2BProvider):
        wire = WireSettings(ping_every=0.2, silence=1.0)

    async with Impatient(**e2b.options) as provider:
        box = await provider.create(SandboxSpec())
        try:
            with anyio.fail_after(LIMIT):
                done = await box.exec(["sh", "-c", "sleep 5; echo said"])
            assert (done.stdout, done.exit_code) == (b"said\n", 0)
        finally:
            await box.terminate()


async def test_a_carrier_makes_room_for_another_one_when_it_is_old(e2b: Emulator, box: GuestSandbox) -> None:
    command = await open_command(await reached(e2b, box), dial_command(BOOT), user=USER, env={})
    carrier = DialCarrier(command, renew_seconds=0)
    try:
        with anyio.fail_after(LIMIT):
            assert await carrier.receive() == b""
        assert not carrier.refused
    finally:
        await carrier.aclose()


async def test_a_carrier_makes_room_for_another_one_after_64_mib_or_an_hour() -> None:
    class Endless(E2BCommand):
        async def receive(self) -> bytes:
            return bytes(1 << 20)

    command = Endless()
    carrier = DialCarrier(command)
    with anyio.fail_after(LIMIT):
        for _ in range(64):
            assert await carrier.receive()
        assert await carrier.receive() == b""
    await command.aclose()
    assert RENEW_SECONDS == 3600


@pytest.mark.full
async def test_carriers_that_are_renewed_all_the_time_lose_nothing(
    e2b: Emulator, box: GuestSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed = partial(DialCarrier, renew_bytes=200_000)  # twice the largest frame
    monkeypatch.setattr(cloud, "DialCarrier", renewed)
    before = e2b.calls.count(START)
    e2b.cut()
    with anyio.fail_after(LIMIT):
        done = await box.exec(["seq", "150000"])
    assert done.stdout.split() == [b"%d" % number for number in range(1, 150001)]
    assert e2b.calls.count(START) > before + 2


@pytest.mark.full
@pytest.mark.parametrize(
    "profile", ["echo welcome", "printf welcome", "cat >&2", "exit 7"], ids=["line", "part", "reads", "ends"]
)
async def test_what_a_profile_of_the_users_does_does_not_cut_the_sandbox_off(
    e2b: Emulator, box: GuestSandbox, profile: str
) -> None:
    for name in (".profile", ".bash_profile", ".bashrc"):
        await box.write_file(f"/home/user/{name}", f"{profile}\n".encode())
    before = e2b.calls.count(START)
    e2b.cut()
    with anyio.fail_after(LIMIT):
        assert (await box.exec(["echo", "here"])).stdout == b"here\n"
    assert e2b.calls.count(START) > before


async def test_what_a_profile_prints_does_not_hide_the_bootstrap(e2b: Emulator) -> None:
    async with E2BProvider(**e2b.options) as provider:
        fault = e2b.faults.add(Fault(START, hold=True))
        boxes: list[GuestSandbox] = []

        async def create() -> None:
            boxes.append(await provider.create(SandboxSpec()))

        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(create)
                await fault.struck.wait()
                (made,) = e2b.boxes.all.values()
                await made.machine.sandbox.write_file("/home/user/.profile", b"printf welcome\n")
                fault.release()
        await boxes[0].terminate()


def test_what_was_printed_before_the_program_began_is_dropped_in_whatever_pieces_it_comes() -> None:
    for size in range(1, 40):
        opening = Opening(["dial"])
        mark = opening.command.split()[2].rstrip(";")
        printed = f"welcome to {mark[:9]}\nprompt> \n{mark}\n" + '{"hello": 1}\n'
        pieces = [printed[begin : begin + size] for begin in range(0, len(printed), size)]
        assert "".join(map(opening.pass_on, pieces)) == '{"hello": 1}\n'


async def test_input_goes_by_one_stream_and_small_pieces_go_together(
    e2b: Emulator, box: GuestSandbox
) -> None:
    sandbox = await reached(e2b, box)
    carrier = await open_command(sandbox, ["cat"], user=USER, env={})
    try:
        before = len(e2b.inputs)
        for _ in range(1000):
            await carrier.send(b"a line\n")
        with anyio.fail_after(LIMIT):
            seen = b""
            while len(seen) < 7000:
                seen += await carrier.receive()
        assert seen == b"a line\n" * 1000
        assert len(e2b.inputs) - before <= 10
        assert INPUT in e2b.calls
        assert "POST /process.Process/SendInput" not in e2b.calls
    finally:
        await carrier.aclose()


async def test_a_program_that_takes_no_input_holds_who_sends(e2b: Emulator, box: GuestSandbox) -> None:
    sandbox = await reached(e2b, box)
    carrier = await open_command(sandbox, ["sh", "-c", "read -r go; echo on; sleep 600"], user=USER, env={})
    try:
        # Until its connection stands, the client's transport accepts whatever it is given.
        await carrier.send(b"go\n")
        printed = b""
        with anyio.fail_after(LIMIT):
            while printed != b"on\n":
                printed += await carrier.receive()
        with anyio.move_on_after(1) as held:  # for ever; without a bound it takes a moment
            for _ in range(1000):
                await carrier.send(bytes(64 * 1024))
        assert held.cancelled_caught
    finally:
        await carrier.aclose()


async def test_a_carrier_that_is_closed_leaves_no_program_and_no_task(
    e2b: Emulator, box: GuestSandbox
) -> None:
    sandbox = await reached(e2b, box)
    tasks, programs = asyncio.all_tasks(), set(dials(e2b, box.id))
    carrier = await open_command(sandbox, dial_command(BOOT), user=USER, env={})
    (mine,) = set(dials(e2b, box.id)) - programs
    with anyio.fail_after(LIMIT):
        assert (await carrier.receive()).startswith(b"{")
        before = e2b.calls.count(KILL)
        await carrier.aclose()
        assert e2b.calls.count(KILL) == before + 1  # it would end by itself, but much later
        await carrier.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await carrier.send(b"{}\n")
        while mine in dials(e2b, box.id):  # noqa: ASYNC110 - the emulator tells only who asks
            await anyio.sleep(0.02)
    mine_left = {task for task in asyncio.all_tasks() - tasks if "e2b/sandbox_async" in repr(task)}
    assert mine_left == set()
    assert (await box.exec(["echo", "here"])).stdout == b"here\n"


async def test_a_dial_that_is_cancelled_while_it_is_opened_reports_nothing_to_the_event_loop(
    e2b: Emulator, box: GuestSandbox
) -> None:
    sandbox = await reached(e2b, box)
    held = e2b.faults.add(Fault(START, hold=True))
    try:
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(open_command, sandbox, dial_command(BOOT), user=USER, env={}))
                await held.struck.wait()
                tasks.cancel_scope.cancel()
        gc.collect()  # a task whose error nobody has fetched tells so now, which fails this test
    finally:
        e2b.faults.clear()
        held.release()


async def test_closing_the_way_to_a_server_that_does_not_answer_is_bounded(
    e2b: Emulator, box: GuestSandbox
) -> None:
    sandbox = await reached(e2b, box)
    carrier = await open_command(sandbox, dial_command(BOOT), user=USER, env={})
    e2b.stall()
    try:
        with anyio.fail_after(LIMIT):
            await carrier.aclose()
    finally:
        e2b.flow()


async def test_a_token_that_is_no_longer_taken_is_got_anew(e2b: Emulator, box: GuestSandbox) -> None:
    assert isinstance(box.backend, E2BBackend)
    e2b.box(box.id).token = "another"
    e2b.cut()
    with anyio.fail_after(LIMIT):
        assert (await box.exec(["echo", "here"])).stdout == b"here\n"
