"""The link over Modal's exec: bytes in any pieces, streams that break off, workers that are lost."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, cast

import anyio
import pytest
from modal_provider.accounts import shorten
from support.boxes import own_box

from agenthost.adapter import cloud
from agenthost.adapter.dial_carrier import DialCarrier
from agenthost.errors import LinkLostError, SandboxGoneError
from agenthost.link.client import GuestSandbox
from agenthost.providers.modal.backend import ModalBackend
from agenthost.providers.modal.carrier import ExecCommand
from agenthost.providers.modal.provider import ModalProvider
from agenthost.providers.modal.settings import Times
from agenthost.sandbox import Carrier
from agenthost.spec import Limits, SandboxSpec
from agenthost.testing.emulators.modal import ModalEmulator
from agenthost.wire.settings import WireSettings

LIMIT = 120


@pytest.fixture
async def provider(bare: ModalEmulator) -> AsyncIterator[ModalProvider]:
    async with ModalProvider(**bare.options, limits=Limits(link_budget=1.0)) as opened:
        yield opened
    bare.faults.clear()


@pytest.fixture
async def box(provider: ModalProvider) -> AsyncIterator[GuestSandbox]:
    async with own_box(provider) as sandbox:
        yield sandbox


async def carrier_to(sandbox: GuestSandbox, *argv: str, times: Times | None = None) -> ExecCommand:
    """Return a carrier to any program."""
    backend = cast("ModalBackend", sandbox.backend)
    started: Any = await (await backend.reached()).exec.aio(*argv, text=False)
    return ExecCommand(started, backend.vendor.once, times or Times())


async def receive(carrier: Carrier, count: int) -> bytes:
    """Return so many bytes, or what there was until the end."""
    data = b""
    while len(data) < count and (piece := await carrier.receive()):
        data += piece
    return data


async def test_any_bytes_pass_in_both_directions(box: GuestSandbox) -> None:
    data = bytes(range(256)) * 40 + random.Random(1).randbytes(300_000)
    carrier = await carrier_to(box, "cat")
    with anyio.fail_after(LIMIT):
        await carrier.send(data)
        assert await receive(carrier, len(data)) == data
        await carrier.aclose()
        await carrier.aclose()


@pytest.mark.full
async def test_many_who_write_at_once_neither_lose_nor_repeat_a_byte(box: GuestSandbox) -> None:
    carrier = await carrier_to(box, "cat")
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(carrier.send, bytes([65 + number]) * 10_000)
        data = await receive(carrier, 80_000)
        assert {letter: data.count(bytes([letter])) for letter in set(data)} == dict.fromkeys(
            range(65, 73), 10_000
        )
        await carrier.aclose()


@pytest.mark.full
async def test_more_than_modals_buffer_takes_is_sent_in_pieces(box: GuestSandbox) -> None:
    carrier = await carrier_to(box, "sh", "-c", "head -c 17000000 | wc -c")
    with anyio.fail_after(LIMIT):
        await carrier.send(bytes(17_000_000))
        assert (await receive(carrier, 9)).strip() == b"17000000"
        await carrier.aclose()


async def test_closing_a_carrier_ends_its_program_which_modal_cannot_kill(box: GuestSandbox) -> None:
    carrier = await carrier_to(box, "sh", "-c", "echo $$ > program; exec cat")
    with anyio.fail_after(LIMIT):
        await carrier.send(b"x")
        assert await carrier.receive() == b"x"
        await carrier.aclose()
        await box.exec(["sh", "-c", "while kill -0 $(cat program); do sleep 0.02; done"])


@pytest.mark.full
async def test_a_closed_carrier_takes_nothing(box: GuestSandbox) -> None:
    carrier = await carrier_to(box, "cat")
    await carrier.aclose()
    with pytest.raises(OSError, match="ended"):
        await carrier.send(b"late")


@pytest.mark.full
async def test_input_that_nobody_takes_ends_the_carrier_in_time(box: GuestSandbox) -> None:
    carrier = await carrier_to(box, "sleep", "100000", times=Times(send=0.3, close=0.3))
    with anyio.fail_after(LIMIT), pytest.raises(OSError, match=r"within 0\.3 s"):
        while True:
            await carrier.send(bytes(1_000_000))
    with pytest.raises(OSError, match="ended"):  # nobody knows what has arrived
        await carrier.send(b"more")
    await carrier.aclose()


@pytest.mark.full
@pytest.mark.parametrize("raised", [ValueError, AttributeError, UnicodeDecodeError])
async def test_whatever_modals_client_raises_ends_the_carrier_alone(
    box: GuestSandbox, raised: type[Exception]
) -> None:
    class Broken:
        """As a client of another version may be."""

        def __getattr__(self, name: str) -> Any:
            raise raised(*(() if raised is not UnicodeDecodeError else ("utf-8", b"", 0, 1, name)))

    carrier = await carrier_to(box, "cat")
    program = vars(carrier)["_process"]
    vars(carrier)["_process"] = Broken()
    with pytest.raises(ConnectionResetError, match=raised.__name__):
        await carrier.send(b"data")
    with pytest.raises(ConnectionResetError, match=raised.__name__):
        await carrier.receive()
    vars(carrier)["_process"] = program
    await carrier.aclose()


async def test_input_whose_answer_is_lost_arrives_once(box: GuestSandbox, bare: ModalEmulator) -> None:
    carrier = await carrier_to(box, "cat")
    pieces = [bytes([65 + number]) * 20_000 for number in range(8)]
    with anyio.fail_after(LIMIT):
        for piece in pieces:
            bare.faults.lose_answer("TaskExecStdinWrite")
            await carrier.send(piece)
        assert await receive(carrier, 160_000) == b"".join(pieces)
        await carrier.aclose()


@pytest.mark.full
async def test_a_cancelled_receive_takes_nothing_away(box: GuestSandbox) -> None:
    carrier = await carrier_to(box, "cat")
    with anyio.fail_after(LIMIT):
        with anyio.move_on_after(0.05):
            await carrier.receive()
        await carrier.send(b"kept")
        assert await receive(carrier, 4) == b"kept"
        await carrier.aclose()


async def test_a_carrier_is_renewed_when_it_has_brought_much_or_is_old(box: GuestSandbox) -> None:
    command = await carrier_to(box, "sh", "-c", "head -c 5000 /dev/zero; cat")
    carrier = DialCarrier(command, renew_bytes=1000)
    with anyio.fail_after(LIMIT):
        assert 1000 <= len(await receive(carrier, 5000)) <= 5000
        assert await carrier.receive() == b""
        await carrier.aclose()
        old = DialCarrier(await carrier_to(box, "cat"), renew_seconds=-1.0)
        assert await old.receive() == b""
        await old.aclose()


@pytest.mark.full
async def test_what_travels_over_renewed_carriers_is_whole(
    provider: ModalProvider, monkeypatch: pytest.MonkeyPatch, bare: ModalEmulator
) -> None:
    monkeypatch.setattr(cloud, "DialCarrier", partial(DialCarrier, renew_bytes=400_000))
    box = await provider.create(SandboxSpec())
    before = bare.calls.count("TaskExecStart")
    data = random.Random(2).randbytes(2_000_000)
    try:
        with anyio.fail_after(LIMIT):
            await box.write_file("data", data)
            assert await box.read_file("data") == data
    finally:
        await box.terminate()
    assert bare.calls.count("TaskExecStart") > before + 2


async def test_streams_that_modal_breaks_off_lose_nothing(box: GuestSandbox, bare: ModalEmulator) -> None:
    data = random.Random(3).randbytes(6_000_000)
    await box.write_file("data", data)
    dropped = 0
    found = b""
    with anyio.fail_after(LIMIT):
        async with box.spawn(["cat", "data"]) as process:
            while piece := await process.receive_stdout():
                found += piece
                if len(found) > 500_000 * (dropped + 1):
                    dropped += bool(bare.cut())
    assert found == data
    assert dropped


@pytest.mark.full
async def test_a_program_that_says_nothing_for_long_is_not_given_up(
    bare: ModalEmulator, provider: ModalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ten minutes of silence, at a three-hundredth of all the times: pings alone keep the link, while the
    # client lets go of connections that nobody uses, and its tokens for the worker run out.
    monkeypatch.setenv("MODAL_SANDBOX_CHANNEL_IDLE_TIMEOUT", "0.2")
    monkeypatch.setattr(bare, "token_seconds", 2.0)
    provider.wire = WireSettings(ping_every=0.1, silence=2.0)
    box = await provider.create(SandboxSpec())
    try:
        starts = bare.calls.count("TaskExecStart")
        with anyio.fail_after(LIMIT):
            result = await box.exec(["sh", "-c", "sleep 2.5; echo still there"])
        assert result.stdout == b"still there\n"
        assert bare.calls.count("TaskExecStart") == starts, "the link was given up in between"
    finally:
        await box.terminate()


@pytest.mark.full
async def test_a_worker_that_lets_everything_stall_is_left_for_another_carrier(
    bare: ModalEmulator, provider: ModalProvider
) -> None:
    provider.wire = WireSettings(ping_every=0.1, silence=0.5)
    box = await provider.create(SandboxSpec())
    await shorten(provider, send=0.5, close=0.2)
    done: list[bytes] = []
    try:
        with anyio.fail_after(LIMIT):
            async with bare.faults.hold("TaskExecStdinWrite") as gate, anyio.create_task_group() as tasks:

                async def run() -> None:
                    done.append((await box.exec(["echo", "after all"])).stdout)

                tasks.start_soon(run)
                await gate.struck.wait()
                before = bare.calls.count("TaskExecStart")
                while bare.calls.count("TaskExecStart") == before:  # noqa: ASYNC110 - only who asks is told
                    await anyio.sleep(0.02)
                gate.release()
        assert done == [b"after all\n"]
    finally:
        await box.terminate()


@pytest.mark.full
@pytest.mark.parametrize("end", ["expire", "lose"])
async def test_a_sandbox_that_has_ended_is_gone_for_who_waits_in_it(
    box: GuestSandbox, bare: ModalEmulator, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "modal-client")
    with anyio.fail_after(LIMIT), pytest.raises(SandboxGoneError):
        async with box.spawn(["sh", "-c", "echo here; sleep 100000"]) as process:
            assert await process.receive_stdout() == b"here\n"
            if end == "lose":
                await bare.lose(box.id)
            else:
                bare.expire(box.id)
            await process.wait()
    with pytest.raises(SandboxGoneError):
        await box.exec(["true"])


@pytest.mark.full
async def test_a_sandbox_that_nobody_can_reach_is_not_called_ended(
    bare: ModalEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "modal-client")
    async with ModalProvider(**bare.options, limits=Limits(link_budget=0.5)) as provider:
        provider.wire = WireSettings(ping_every=0.1, silence=0.5)
        box = await provider.create(SandboxSpec())
        await shorten(provider, call=0.3, close=0.2)
        async with bare.faults.hold("TaskExecStart"), bare.faults.hold("TaskExecStdioRead"):
            bare.cut()
            with anyio.fail_after(LIMIT), pytest.raises(LinkLostError):
                await box.exec(["sleep", "100000"])
        assert bare.running() == [box.id]
        await box.terminate()


@pytest.mark.full
async def test_the_client_holds_no_connection_when_the_provider_is_closed(bare: ModalEmulator) -> None:
    async with ModalProvider(**bare.options) as provider:
        box = await provider.create(SandboxSpec())
        vendor = provider.vendor
        assert len(vars(vendor.connections)["_sandboxes"]) == 1
    assert len(vars(vendor.connections)["_sandboxes"]) == 0
    async with ModalProvider(**bare.options) as provider:
        found = await provider.get(box.id)
        assert (await found.exec(["echo", "here"])).stdout == b"here\n"
        await found.terminate()
