"""Sandboxes at Vercel from their making to their end, and what is never done to them by itself."""

from __future__ import annotations

import logging
import math
from typing import Any

import anyio
import pytest
from support.waiting import until_true

from agenthost.adapter.provider import LifetimeLimitError
from agenthost.errors import (
    ConfigError,
    LinkError,
    NameTakenError,
    ProviderBusyError,
    QuotaError,
    SandboxGoneError,
    SandboxNotFoundError,
    UnsupportedError,
)
from agenthost.link.client import GuestSandbox
from agenthost.providers.vercel.backend import VercelBackend
from agenthost.providers.vercel.provider import VercelProvider
from agenthost.spec import SandboxSpec
from agenthost.testing.emulators.vercel import Emulator, Fault, emulator
from agenthost.testing.emulators.vercel.emulator import CREATE

LIMIT = 60


def body_of(vercel: Emulator, box: GuestSandbox) -> dict[str, Any]:
    """Return what a sandbox was asked to be."""
    return dict(vercel.box(box.id).body)


async def test_a_sandbox_that_another_program_has_resumed_is_gone_and_nothing_runs_in_its_new_machine(
    vercel: Emulator, provider: VercelProvider
) -> None:
    box = await provider.create(SandboxSpec())
    await vercel.lose(box.id)
    other = (await vercel.resume(box.name, next(iter(vercel.snapshots.all)))).id
    try:
        with anyio.fail_after(LIMIT), pytest.raises(SandboxGoneError):
            await box.exec(["touch", "here"])
        with pytest.raises(SandboxNotFoundError):
            await provider.get(box.id)
        await box.terminate()
        assert vercel.box(other).programs == {}
        assert other in vercel.running()  # it is not agenthost's to end
        assert not any("resume=true" in call for call in vercel.calls)
    finally:
        await vercel.lose(other)


async def test_a_sandbox_whose_time_is_over_is_gone_and_keeps_no_name_once_it_is_ended(
    vercel: Emulator, provider: VercelProvider
) -> None:
    box = await provider.create(SandboxSpec())
    vercel.expire(box.id)
    with anyio.fail_after(LIMIT):
        await vercel.ended(box.id)
        with pytest.raises(SandboxGoneError):
            await box.exec(["true"])
        assert (await box.info()).state == "ended"
        with pytest.raises(NameTakenError):
            await provider.create(SandboxSpec(name=box.name))
        assert [info.state async for info in provider.list() if info.name == box.name] == ["ended"]
        await box.terminate()
        again = await provider.create(SandboxSpec(name=box.name))
        await again.terminate()


async def test_nothing_of_a_sandbox_is_kept_when_it_stops(vercel: Emulator, provider: VercelProvider) -> None:
    before = len(vercel.snapshots.all)
    box = await provider.create(SandboxSpec())
    assert body_of(vercel, box)["persistent"] is False
    await box.terminate()
    assert len(vercel.snapshots.all) == before


@pytest.mark.full
@pytest.mark.parametrize("longest", [2700.0, 1800.0])
async def test_an_explicit_lifetime_above_the_plans_is_refused_and_a_default_one_falls_back_with_one_warning(
    longest: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="agenthost.adapter")
    async with emulator(longest=longest) as vercel, VercelProvider(**vercel.options) as provider:
        with pytest.raises(LifetimeLimitError, match=f"allows {longest / 3600:g} hours at most"):
            await provider.create(SandboxSpec(max_lifetime=3600))
        assert vercel.running() == []
        for _ in range(2):
            box = await provider.create(SandboxSpec())
            assert body_of(vercel, box)["timeout"] == longest * 1000
            await box.terminate()
    assert len([one for one in caplog.records if "the longest of this plan" in one.message]) == 1


async def test_a_plan_that_does_not_state_its_limit_is_the_smallest_one(vercel: Emulator) -> None:
    vercel.faults.add(Fault(CREATE, status=400, message="Invalid request: `timeout` is too long."))
    try:
        async with VercelProvider(**vercel.options) as provider:
            with pytest.raises(LifetimeLimitError, match=r"0\.75 hours"):
                await provider.create(SandboxSpec(max_lifetime=3600))
    finally:
        vercel.faults.clear()


async def test_a_create_that_comes_too_often_waits_as_vercel_asks_and_makes_one(
    vercel: Emulator, provider: VercelProvider
) -> None:
    before = vercel.calls.count(CREATE)
    vercel.faults.refuse(CREATE, 429, retry_after=0)
    with anyio.fail_after(LIMIT):
        box = await provider.create(SandboxSpec())
    assert vercel.calls.count(CREATE) == before + 2
    assert [one for one in vercel.running() if one == box.id] == [box.id]
    await box.terminate()


async def test_a_create_that_vercel_wants_much_later_is_an_error_that_says_when(
    vercel: Emulator, provider: VercelProvider
) -> None:
    vercel.faults.refuse(CREATE, 429, retry_after=21)
    with pytest.raises(ProviderBusyError, match="too many requests") as caught:
        await provider.create(SandboxSpec())
    assert caught.value.retry_after == 21


async def test_the_plans_number_of_sandboxes_is_an_error_of_its_own() -> None:
    async with emulator(most_running=1) as vercel, VercelProvider(**vercel.options) as provider:
        box = await provider.create(SandboxSpec())
        with anyio.fail_after(LIMIT), pytest.raises(QuotaError, match="as many sandboxes as its plan"):
            await provider.create(SandboxSpec())
        assert vercel.calls.count(CREATE) == 2
        await box.terminate()


async def test_labels_that_five_tags_cannot_hold_are_refused_before_any_call(
    vercel: Emulator, provider: VercelProvider
) -> None:
    before = len(vercel.calls)
    long = "".join(f"{math.sqrt(number)!r}" for number in range(2, 70))  # nothing that can be packed well
    with pytest.raises(ConfigError, match="768 is the most"):
        await provider.create(SandboxSpec(labels={"long": long}))
    assert len(vercel.calls) == before


@pytest.mark.full
async def test_more_sandboxes_than_a_page_has_are_all_listed(
    vercel: Emulator, provider: VercelProvider
) -> None:
    boxes = [await provider.create(SandboxSpec()) for _ in range(3)]
    vercel.control.page = 1
    try:
        listed = [info.id async for info in provider.list()]
        assert set(listed) >= {box.id for box in boxes}
    finally:
        vercel.control.page = 50
        for box in boxes:
            await box.terminate()


async def test_a_sandbox_that_a_list_does_not_have_yet_is_found_by_its_name() -> None:
    async with emulator(list_lag=3600) as vercel, VercelProvider(**vercel.options) as provider:
        vercel.faults.lose_answer(CREATE)
        with anyio.fail_after(LIMIT):
            box = await provider.create(SandboxSpec())
        assert vercel.running() == [box.id]
        await box.terminate()


@pytest.mark.parametrize(
    ("spec", "cores"),
    [
        (SandboxSpec(), 2),
        (SandboxSpec(cpu=3), 4),
        (SandboxSpec(memory_mib=4097), 4),
        (SandboxSpec(cpu=1, memory_mib=1024), 2),
    ],
)
async def test_a_sandbox_has_at_least_what_was_asked_for(
    vercel: Emulator, provider: VercelProvider, spec: SandboxSpec, cores: int
) -> None:
    box = await provider.create(spec)
    try:
        assert body_of(vercel, box)["resources"] == {"vcpus": cores, "memory": cores * 2048}
        resources = (await box.info()).resources
        assert (resources["vcpus"], resources["memory"]) == (str(cores), str(cores * 2048))
    finally:
        await box.terminate()


async def test_what_vercel_has_no_size_for_is_refused_before_any_call(
    vercel: Emulator, provider: VercelProvider
) -> None:
    before = len(vercel.calls)
    with pytest.raises(UnsupportedError, match="disk_mib"):
        await provider.create(SandboxSpec(disk_mib=5120))
    assert len(vercel.calls) == before


async def test_a_lease_is_the_first_end_and_is_moved_by_what_is_missing(
    vercel: Emulator, provider: VercelProvider
) -> None:
    box = await provider.create(SandboxSpec(lease=120, max_lifetime=600))
    backend = box.backend
    assert isinstance(backend, VercelBackend)
    made = vercel.box(box.id)
    try:
        assert 120 <= made.end_at - made.started_at < 180
        await backend.extend(60)  # Vercel never brings an end forward
        assert made.end_at - made.started_at >= 120
        await backend.extend(300)
        assert 298 < made.end_at - made.started_at < 310
        await backend.extend(3600)
        assert 590 < made.end_at - made.started_at < 610  # the lifetime
    finally:
        await box.terminate()
    with pytest.raises(SandboxGoneError):
        await backend.extend(60)


async def test_an_extension_whose_answer_is_lost_is_not_made_twice(
    vercel: Emulator, provider: VercelProvider
) -> None:
    box = await provider.create(SandboxSpec(lease=120, max_lifetime=3600))
    backend = box.backend
    assert isinstance(backend, VercelBackend)
    made = vercel.box(box.id)
    call = f"POST /api/v2/sandboxes/sessions/{made.session}/extend-timeout"
    try:
        vercel.faults.lose_answer(call)
        with anyio.fail_after(LIMIT):
            await backend.extend(600)
        assert 598 < made.end_at - made.started_at < 620
        vercel.faults.refuse(call, 500, times=2)
        with anyio.fail_after(LIMIT):
            await backend.extend(1200)
        assert 1198 < made.end_at - made.started_at < 1220
    finally:
        vercel.faults.clear()
        await box.terminate()


async def test_one_that_is_lost_is_gone_and_its_end_is_no_error(
    vercel: Emulator, provider: VercelProvider
) -> None:
    box = await provider.create(SandboxSpec())
    with anyio.fail_after(LIMIT):
        async with box.spawn(["sleep", "600"]) as process:
            await vercel.lose(box.id)
            with pytest.raises((SandboxGoneError, LinkError)):
                await process.wait()
        await box.terminate()
        await box.terminate()
        await until_true(lambda: box.id not in vercel.running())


async def test_the_port_of_the_other_carrier_is_declared_and_found_by_another_process(
    vercel: Emulator,
) -> None:
    async with VercelProvider(**vercel.options, carrier="http") as provider:
        box = await provider.create(SandboxSpec())
        try:
            (port,) = body_of(vercel, box)["ports"]
            assert 20_000 <= port < 32_000
            async with VercelProvider(**vercel.options) as other:  # its own default is another carrier
                with anyio.fail_after(LIMIT):
                    again = await other.get(box.id)
                    assert (await again.exec(["echo", "here"])).stdout == b"here\n"
            (installation,) = vercel.box(box.id).programs.values()
            assert installation.code == 0  # no program of a link
            backend = box.backend
            assert isinstance(backend, VercelBackend)
            with pytest.raises(ConfigError, match="port 80"):
                await backend.endpoint(80)
        finally:
            await box.terminate()
