"""A sandbox of Daytona from its making to its end."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from agenthost.adapter.images import ImageGoneError
from agenthost.errors import (
    ConfigError,
    ProviderError,
    QuotaError,
    SandboxGoneError,
    UnsupportedError,
)
from agenthost.providers.daytona.backend import DaytonaBackend
from agenthost.providers.daytona.provider import DaytonaProvider
from agenthost.spec import NetworkPolicy, SandboxSpec
from agenthost.supports import ImageRecipe
from agenthost.testing.emulators.base.faults import Fault
from agenthost.testing.emulators.daytona import Emulator, emulator
from agenthost.testing.emulators.daytona.emulator import CREATE

LIMIT = 120
HOUR = 3600


async def test_without_a_lease_nothing_stops_a_sandbox_before_its_lifetime_is_over(
    provider: DaytonaProvider, daytona: Emulator
) -> None:
    box = await provider.create(SandboxSpec(max_lifetime=6 * HOUR))
    made = daytona.box(box.id)
    assert (made.auto_stop, made.auto_delete, made.ttl) == (0, 0, 360)
    assert made.end_at == made.destroyed_at
    daytona.expire(box.id)
    with anyio.fail_after(LIMIT):
        await daytona.ended(box.id)
        with pytest.raises(SandboxGoneError):
            await box.exec(["true"])
    assert (await box.info()).state == "ended"


async def test_a_lease_ends_a_sandbox_that_a_host_merely_stays_connected_to(daytona: Emulator) -> None:
    async with DaytonaProvider(**daytona.options) as provider:
        box = await provider.create(SandboxSpec(lease=5 * 60, max_lifetime=HOUR))
        backend, made = box.backend, daytona.box(box.id)
        assert isinstance(backend, DaytonaBackend)
        assert (made.auto_stop, made.ttl) == (5, 60)
        active = made.active_at
        assert (await box.exec(["echo", "here"])).stdout == b"here\n"
        assert made.active_at == active
        await backend.extend(10 * 60)
        assert made.auto_stop == 10
        assert made.active_at > active
        expires = (await box.info()).expires_at
        assert expires is not None
        assert abs(expires - made.end_at) < 1
        await backend.extend(10 * HOUR)
        assert made.auto_stop <= 60  # the end of the lifetime, to the minute
        daytona.expire(box.id)
        with anyio.fail_after(LIMIT):
            await daytona.ended(box.id)
            with pytest.raises(SandboxGoneError):
                await backend.extend(60)


@pytest.mark.parametrize("is_adopted", [True, False], ids=["adopted", "deleted"])
async def test_a_create_that_took_too_long_is_adopted_by_its_id_or_deleted(
    daytona_snapshot: dict[str, Path], monkeypatch: pytest.MonkeyPatch, is_adopted: bool
) -> None:
    async with (
        emulator(snapshots=daytona_snapshot) as daytona,
        DaytonaProvider(**daytona.options) as provider,
    ):
        client = await provider.vendor.client()
        real = client.create

        async def create(params: object, timeout: float) -> object:
            try:
                return await real(params, timeout=timeout)
            finally:
                daytona.control.looks = 0 if is_adopted else math.inf

        # The client's limit begins before the sandbox is there, which takes seconds on a busy machine.
        monkeypatch.setattr(provider.vendor, "creating", (6.0, 30.0 if is_adopted else 0.5))
        monkeypatch.setattr(provider, "looks", (0.0,))
        monkeypatch.setattr(client, "create", create)
        daytona.control.looks = math.inf
        with anyio.fail_after(LIMIT):
            if is_adopted:
                box = await provider.create(SandboxSpec())
                assert (await box.exec(["echo", "late"])).stdout == b"late\n"
                await box.terminate()
            else:
                with pytest.raises(ProviderError, match="did not answer in time") as caught:
                    await provider.create(SandboxSpec())
                assert caught.value.outcome == "unknown"
        assert daytona.calls.count(CREATE) == 1
        assert daytona.running() == []


async def test_a_create_that_comes_too_often_is_made_when_daytona_says(
    daytona_snapshot: dict[str, Path],
) -> None:
    async with (
        emulator(snapshots=daytona_snapshot, creates_at_once=1, creates_each_second=1.0) as daytona,
        DaytonaProvider(**daytona.options) as provider,
        anyio.create_task_group() as tasks,
    ):
        with anyio.fail_after(LIMIT):
            tasks.start_soon(provider.create, SandboxSpec())
            await provider.create(SandboxSpec())
    assert daytona.calls.count(CREATE) > 2


async def test_a_quota_that_is_used_up_is_named(daytona_snapshot: dict[str, Path]) -> None:
    async with (
        emulator(snapshots=daytona_snapshot, most_cores=1) as daytona,
        DaytonaProvider(**daytona.options) as provider,
    ):
        with pytest.raises(QuotaError, match="Total CPU limit exceeded"):
            await provider.create(SandboxSpec())


# ---- networks and secrets


@pytest.mark.parametrize(
    ("network", "body"),
    [
        (None, {}),
        (NetworkPolicy.open(), {}),
        (NetworkPolicy.none(), {"networkBlockAll": True}),
        (NetworkPolicy.allow(["PyPI.org", "*.example.org"]), {"domainAllowList": "pypi.org,*.example.org"}),
        (NetworkPolicy.allow(["10.1.2.3", "10.0.0.9/8"]), {"networkAllowList": "10.1.2.3/32,10.0.0.0/8"}),
    ],
    ids=["default", "open", "none", "hosts", "addresses"],
)
async def test_a_policy_travels_as_daytona_has_it(
    daytona: Emulator, provider: DaytonaProvider, network: NetworkPolicy | None, body: dict[str, Any]
) -> None:
    box = await provider.create(SandboxSpec(network=network))
    try:
        asked = daytona.box(box.id).body
        names = ("networkBlockAll", "networkAllowList", "domainAllowList")
        assert {name: asked[name] for name in names if name in asked} == body
    finally:
        await box.terminate()


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"tier": 2}, None),
        ({"ignores_network": True}, Fault("DELETE /api/sandbox", 503)),
        ({"ignores_network": True}, Fault(CREATE, lose=True)),
    ],
    ids=["refused", "forgotten", "forgotten-and-found"],
)
async def test_a_policy_that_the_tier_does_not_allow_is_refused_and_leaves_nothing(
    daytona_snapshot: dict[str, Path], options: dict[str, Any], fault: Fault | None
) -> None:
    async with (
        emulator(snapshots=daytona_snapshot, **options) as daytona,
        DaytonaProvider(**daytona.options) as provider,
    ):
        if fault is not None:
            daytona.faults.add(fault)
        with pytest.raises(UnsupportedError, match=r"network|tier"):
            await provider.create(SandboxSpec(network=NetworkPolicy.none()))
        assert daytona.running() == []


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        (["pypi.org", "10.0.0.1"], "hosts only, or addresses only"),
        ([f"10.0.0.{number}" for number in range(11)], "accepts 10 at most"),
    ],
)
async def test_a_list_that_daytona_cannot_enforce_is_refused_before_any_call(
    daytona: Emulator, provider: DaytonaProvider, hosts: list[str], words: str
) -> None:
    before = len(daytona.calls)
    with pytest.raises(UnsupportedError, match=words):
        await provider.create(SandboxSpec(network=NetworkPolicy.allow(hosts)))
    assert len(daytona.calls) == before


async def test_a_secret_is_a_placeholder_inside(daytona: Emulator, provider: DaytonaProvider) -> None:
    options = {"secrets": {"MODEL_KEY": "model-key"}}
    box = await provider.create(SandboxSpec(provider_options=options))
    try:
        shown = (await box.exec(["sh", "-c", 'echo "$MODEL_KEY"'])).stdout
        assert shown.startswith(b"dtn_secret_")
        assert daytona.box(box.id).body["secrets"] == [{"MODEL_KEY": "model-key"}]
    finally:
        await box.terminate()
    for secrets in ({"MODEL_KEY": "no-such-secret"}, {"MODEL_KEY": 1}, ["model-key"]):
        with pytest.raises(ConfigError, match="secret"):
            await provider.create(SandboxSpec(provider_options={"secrets": secrets}))
    assert daytona.running() == []


# ---- snapshots


async def test_what_is_baked_already_is_found_again_and_begun_with(
    provider: DaytonaProvider, daytona: Emulator
) -> None:
    lines: list[str] = []
    image = await provider.build(ImageRecipe(), on_progress=lines.append)
    assert lines == [f"{image} is there already"]
    box = await provider.create(SandboxSpec(cpu=2, memory_mib=4096), needs_sdk=True)
    try:
        assert daytona.box(box.id).snapshot == image
    finally:
        await box.terminate()


async def test_without_a_baked_snapshot_it_is_daytonas_own_with_room_for_the_sdk() -> None:
    async with emulator() as daytona, DaytonaProvider(**daytona.options) as provider:
        box = await provider.create(SandboxSpec())
        assert daytona.box(box.id).snapshot == "daytona-medium"
        await box.terminate()
        with pytest.raises(UnsupportedError, match="no snapshot was baked yet"):
            await provider.create(SandboxSpec(cpu=2))
        with pytest.raises(UnsupportedError, match="size of its snapshot"):
            await provider.create(SandboxSpec(cpu=2, image="daytona-large"))
        with pytest.raises(ImageGoneError):
            await provider.create(SandboxSpec(image="no-such-snapshot"))


async def test_a_build_that_fails_leaves_no_snapshot() -> None:
    async with (
        emulator(build_env={"PIP_NO_INDEX": "1"}) as daytona,
        DaytonaProvider(**daytona.options) as provider,
    ):
        lines: list[str] = []
        with anyio.fail_after(LIMIT), pytest.raises(ProviderError, match="Failed to create snapshot"):
            await provider.build(ImageRecipe(), on_progress=lines.append)
        assert set(daytona.snapshots.all) == {"daytona-small", "daytona-medium", "daytona-large"}
        assert any("No matching distribution" in line for line in lines)


@pytest.mark.parametrize("small", [{"cpu": 0}, {"memory_gib": 0}, {"disk_gib": 4}])
def test_a_size_below_what_the_sdk_needs_is_refused(small: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the SDK needs"):
        DaytonaProvider(api_key="dtn_x", **small)


async def test_times_are_those_that_daytona_states(provider: DaytonaProvider) -> None:
    box = await provider.create(SandboxSpec(max_lifetime=600))
    try:
        info = await box.info()
        assert info.expires_at is not None
        assert abs(info.expires_at - time.time() - 600) < 60
        assert info.isolation == "namespaces"
        assert info.resources["snapshot"].startswith("agenthost-sdk-")
    finally:
        await box.terminate()
