"""The way to a guest at Vercel: what is cut, stalled, refused or closed loses nothing and leaves nothing."""

from __future__ import annotations

from typing import cast

import anyio
import pytest
from support.boxes import COUNTED, count_through_cuts, own_box, send_through_a_stall
from support.waiting import until_true

from agenthost.adapter import cloud
from agenthost.errors import SandboxStartError, UnsupportedError
from agenthost.link.client import GuestSandbox
from agenthost.providers.vercel import backend, carrier
from agenthost.providers.vercel.backend import VercelBackend
from agenthost.providers.vercel.carrier import VercelCommand
from agenthost.providers.vercel.provider import VercelProvider
from agenthost.spec import Limits, SandboxSpec
from agenthost.testing.emulators.vercel import Emulator, Fault, emulator
from agenthost.testing.emulators.vercel.programs import Program
from agenthost.wire.settings import WireSettings

LIMIT = 60
BIG = 8_000_000  # bytes: more than all that lies between holds


def programs(vercel: Emulator, box: GuestSandbox) -> list[Program]:
    """Return the programs that Vercel runs in a sandbox: those of the link."""
    return [one for one in vercel.box(box.id).programs.values() if one.code is None]


def started(vercel: Emulator, box: GuestSandbox) -> int:
    """Return how many programs Vercel has started in a sandbox."""
    return len(vercel.box(box.id).programs)


def session_of(box: GuestSandbox) -> str:
    """Return the beginning of the calls about a sandbox's session."""
    return f"/api/v2/sandboxes/sessions/{box.id.partition('.')[2]}"


async def run(box: GuestSandbox, *argv: str) -> VercelCommand:
    """Start a program as the link does."""
    able = cast("VercelBackend", box.backend)
    return await able.vendor.run(box.id, argv, env={})


async def read(command: VercelCommand, size: int) -> bytes:
    """Return so many bytes, or what there is until the end."""
    seen = b""
    while len(seen) < size and (data := await command.receive()):
        seen += data
    return seen


@pytest.mark.full
async def test_a_log_that_is_cut_is_replaced_by_another_program_and_loses_and_repeats_nothing(
    vercel: Emulator, box: GuestSandbox
) -> None:
    assert await count_through_cuts(box, vercel, lambda: started(vercel, box), within=LIMIT) == COUNTED


async def test_a_stream_that_the_edge_cuts_after_five_minutes_is_noticed(
    vercel: Emulator, box: GuestSandbox
) -> None:
    before = started(vercel, box)
    vercel.clock.advance(301)
    with anyio.fail_after(LIMIT):
        assert (await box.exec(["echo", "here"])).stdout == b"here\n"
    assert started(vercel, box) > before


async def test_a_stream_that_stalls_is_given_up_and_another_one_goes_on(vercel: Emulator) -> None:
    class Impatient(VercelProvider):
        wire = WireSettings(ping_every=0.5, silence=2.0)

    async with Impatient(**vercel.options) as provider, own_box(provider) as box:
        assert (
            await send_through_a_stall(box, vercel, lambda: started(vercel, box), within=LIMIT) == b"through"
        )


async def test_the_output_of_a_program_without_input_survives_a_cut_once_and_whole(
    vercel: Emulator, box: GuestSandbox
) -> None:
    # As an installation of minutes does, whose log is cut by the edge and then comes from its beginning.
    command = await run(
        box, "sh", "-c", "seq 3000; echo one >&2; while ! [ -e go ]; do sleep 0.05; done; seq 9"
    )
    try:
        with anyio.fail_after(LIMIT):
            seen = await read(command, len("".join(f"{number}\n" for number in range(1, 3001))))
            vercel.cut()
            await vercel.box(box.id).machine.sandbox.write_file("/vercel/go", b"")
            while data := await command.receive():
                seen += data
            assert await command.wait() == 0
        assert seen.split() == [b"%d" % number for number in (*range(1, 3001), *range(1, 10))]
        assert command.stderr == b"one\n"
    finally:
        await command.aclose()


@pytest.mark.parametrize("lost", ["answer", "request", "busy"])
async def test_input_whose_outcome_is_not_known_arrives_once(
    vercel: Emulator, box: GuestSandbox, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier, "_PAUSE", 0.01)
    command = await run(box, "cat")
    try:
        program = programs(vercel, box)[-1]
        call = f"POST {session_of(box)}/cmd/{program.about['id']}/stdin"
        with anyio.fail_after(LIMIT):
            await command.send(b"first\n")
            if lost == "answer":
                vercel.faults.lose_answer(call, times=2)
            elif lost == "request":
                vercel.faults.add(Fault(call, drop=True, times=2))
            else:
                vercel.faults.refuse(call, 429, retry_after=0)
                vercel.faults.refuse(call, 503)
            await command.send(b"second\n")
            assert await read(command, 13) == b"first\nsecond\n"
            assert program.accepted == 13
    finally:
        vercel.faults.clear()
        await command.aclose()


async def test_input_that_a_program_does_not_read_holds_the_sender_and_arrives_whole_when_it_reads(
    vercel: Emulator, box: GuestSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier, "_PAUSE", 0.05)
    command = await run(box, "sh", "-c", "while ! [ -e go ]; do sleep 0.05; done; head -c 8000000 | wc -c")
    before = len(vercel.calls)
    try:
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(command.send, bytes(BIG))
                program = programs(vercel, box)[-1]
                # It is refused with 504, and sent again from where it stopped.
                await until_true(lambda: sum(call.endswith("/stdin") for call in vercel.calls[before:]) > 8)
                assert 0 < program.accepted < BIG
                await vercel.box(box.id).machine.sandbox.write_file("/vercel/go", b"")
            assert await read(command, 8) == b"%d\n" % BIG
    finally:
        await command.aclose()


async def test_input_that_is_never_read_is_given_up(
    box: GuestSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier, "_SENDING", 0.5)
    command = await run(box, "sleep", "600")
    try:
        with anyio.fail_after(LIMIT), pytest.raises(anyio.BrokenResourceError):
            await command.send(bytes(BIG))
    finally:
        await command.aclose()


async def test_vercel_that_wants_input_much_later_is_not_waited_for(
    vercel: Emulator, box: GuestSandbox
) -> None:
    command = await run(box, "cat")
    vercel.faults.refuse(f"POST {session_of(box)}/cmd/", 429, retry_after=21)
    try:
        with anyio.fail_after(LIMIT), pytest.raises(anyio.BrokenResourceError):
            await command.send(b"a line\n")
    finally:
        vercel.faults.clear()
        await command.aclose()


async def test_a_program_that_has_ended_takes_no_input_and_its_end_is_known(box: GuestSandbox) -> None:
    command = await run(box, "sh", "-c", "echo said >&2; exit 7")
    try:
        with anyio.fail_after(LIMIT):
            assert await command.receive() == b""
            assert (await command.wait(), command.stderr) == (7, b"said\n")
            with pytest.raises(anyio.BrokenResourceError):
                await command.send(b"{}\n")
    finally:
        await command.aclose()


async def test_a_carrier_that_is_closed_leaves_no_program(vercel: Emulator, box: GuestSandbox) -> None:
    command = await run(box, "sleep", "600")
    program = programs(vercel, box)[-1]
    with anyio.fail_after(LIMIT):
        await command.aclose()  # without a kill it would run on
        await until_true(lambda: program.code == 137)
        await command.aclose()
        with pytest.raises(anyio.BrokenResourceError):
            await command.send(b"{}\n")
    assert (await box.exec(["echo", "here"])).stdout == b"here\n"


async def test_closing_the_way_to_a_server_that_does_not_answer_is_bounded(
    vercel: Emulator, box: GuestSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier, "_CLOSING", 0.2)
    command = await run(box, "cat")
    async with vercel.faults.hold(f"POST {session_of(box)}/cmd/"):
        with anyio.fail_after(LIMIT):
            await command.aclose()


async def test_where_input_is_refused_the_error_names_the_other_carrier() -> None:
    async with emulator(stdin=False) as vercel, VercelProvider(**vercel.options) as provider:
        with anyio.fail_after(LIMIT), pytest.raises(UnsupportedError, match='carrier="http"'):
            await provider.create(SandboxSpec())
        assert vercel.running() == []


@pytest.mark.full  # waits for all the time that a start may take, which has to be enough on a busy machine
async def test_where_the_program_of_the_link_prints_nothing_the_error_names_the_other_carrier(
    vercel: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(directory: str) -> list[str]:
        del directory
        return ["sleep", "600"]

    monkeypatch.setattr(backend, "_HELLO", 0.05)
    monkeypatch.setattr(cloud, "dial_command", silent)
    limits = Limits(start=90.0, link_budget=4.0)
    async with VercelProvider(**vercel.options, limits=limits) as provider:
        with (
            anyio.fail_after(3 * LIMIT),
            pytest.raises(SandboxStartError, match=r'printed nothing.*carrier="http"'),
        ):
            await provider.create(SandboxSpec())


async def test_no_call_with_input_reaches_vercels_limit(vercel: Emulator, box: GuestSandbox) -> None:
    # Vercel refuses a body of 1 MB with 413, after which the carrier would be given up.
    command = await run(box, "sh", "-c", "exec cat >/dev/null")
    try:
        with anyio.fail_after(LIMIT):
            await command.send(bytes(2_000_000))
        assert programs(vercel, box)[-1].accepted == 2_000_000
    finally:
        await command.aclose()
