"""Snapshots that agents start fast in: made once, named by what is in them, and missed when they expire."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio
import pytest
from support.package_index import PackageIndex

from agenthost.adapter.images import ImageGoneError
from agenthost.errors import BootstrapError, ProviderError
from agenthost.providers.vercel.provider import VercelProvider
from agenthost.spec import SandboxSpec
from agenthost.supports import ImageRecipe
from agenthost.testing.emulators.vercel import Emulator, Fault, emulator
from agenthost.testing.emulators.vercel.emulator import CREATE

LIMIT = 240
DAY = 24 * 3600


@pytest.mark.full
async def test_what_is_baked_already_is_found_again_and_begun_with(
    provider: VercelProvider, vercel: Emulator
) -> None:
    said: list[str] = []
    image = await provider.build(ImageRecipe(), on_progress=said.append)
    assert said == [f"{image} is there already"]
    box = await provider.create(SandboxSpec(), needs_sdk=True)
    try:
        assert vercel.box(box.id).body["source"] == {"type": "snapshot", "snapshotId": image}
    finally:
        await box.terminate()


async def test_a_snapshot_that_has_expired_counts_as_not_baked(
    vercel_snapshot: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="agenthost.adapter")
    async with emulator(snapshots=vercel_snapshot) as vercel, VercelProvider(**vercel.options) as provider:
        first = await provider.create(SandboxSpec())
        (kept,) = vercel.snapshots.all.values()
        kept.status = "deleted"  # as Vercel does when its time is over
        box = await provider.create(SandboxSpec())
        assert vercel.box(box.id).body["image"] == "vercel/sandbox/universal:latest"
        assert len([one for one in caplog.records if "has expired" in one.message]) == 1
        with pytest.raises(ImageGoneError):
            await provider.create(SandboxSpec(image=kept.id))
        await first.terminate()
        await box.terminate()


async def test_a_snapshot_that_will_soon_expire_is_not_begun_with(vercel_snapshot: dict[str, Path]) -> None:
    async with emulator(snapshots=vercel_snapshot) as vercel, VercelProvider(**vercel.options) as provider:
        (kept,) = vercel.snapshots.all.values()
        kept.expires_at = vercel.clock.now() + 1800
        box = await provider.create(SandboxSpec())
        assert "source" not in vercel.box(box.id).body
        await box.terminate()


async def test_a_build_that_fails_prints_why_and_leaves_nothing() -> None:
    nowhere = {"PIP_NO_INDEX": "1"}
    async with emulator(build_env=nowhere) as vercel, VercelProvider(**vercel.options) as provider:
        with (
            anyio.fail_after(LIMIT),
            pytest.raises(ProviderError, match="a step of the image failed") as caught,
        ):
            await provider.build(ImageRecipe())
        assert "No matching distribution found for claude-agent-sdk" in str(caught.value)
        assert vercel.running() == []
        assert vercel.snapshots.all == {}
        assert all(box.removed for box in vercel.boxes.all.values())


@pytest.mark.parametrize("call", [CREATE, "POST /api/v2/sandboxes/sessions/"])
async def test_cancelled_wherever_it_is_it_leaves_nothing(call: str) -> None:
    nowhere = {"PIP_NO_INDEX": "1"}
    async with emulator(build_env=nowhere) as vercel, VercelProvider(**vercel.options) as provider:
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                fault = vercel.faults.add(Fault(call, hold=True))
                tasks.start_soon(provider.build, ImageRecipe())
                await fault.struck.wait()
                tasks.cancel_scope.cancel()
                fault.release()
            await vercel.settled()
        assert vercel.running() == []
        assert all(box.removed for box in vercel.boxes.all.values())


async def test_where_nothing_can_be_installed_the_error_names_what_helps() -> None:
    nowhere = {"PIP_NO_INDEX": "1"}
    async with emulator(env=nowhere) as vercel, VercelProvider(**vercel.options) as provider:
        with anyio.fail_after(LIMIT), pytest.raises(BootstrapError, match="agenthost bake vercel"):
            await provider.create(SandboxSpec(), needs_sdk=True)
        assert vercel.running() == []


@pytest.mark.full
async def test_without_a_snapshot_the_sdk_is_installed_though_the_edge_cuts_the_log_meanwhile(
    package_index: PackageIndex,
) -> None:
    said: list[str] = []
    async with (
        package_index.serving() as environment,
        emulator(env=environment) as vercel,
        VercelProvider(**vercel.options) as provider,
    ):

        def on_progress(line: str) -> None:
            said.append(line)
            vercel.cut()

        with anyio.fail_after(LIMIT):
            box = await provider.create(SandboxSpec(), needs_sdk=True, on_progress=on_progress)
        try:
            done = await box.exec(["test", "-d", "/vercel/.agenthost/site/claude_agent_sdk"])
            assert done.exit_code == 0
        finally:
            await box.terminate()
    assert said[0].startswith("installing claude-agent-sdk")
    assert len(said) == len(set(said))


@pytest.mark.full
async def test_a_bake_that_is_forced_replaces_what_there_is_and_lasts_for_thirty_days(
    package_index: PackageIndex,
) -> None:
    async with (
        package_index.serving() as environment,
        emulator(build_env=environment) as vercel,
        VercelProvider(**vercel.options) as provider,
    ):
        with anyio.fail_after(LIMIT):
            first = await provider.build(ImageRecipe())
            second = await provider.build(ImageRecipe(), force=True)
        assert vercel.snapshots.all[first].status == "deleted"
        kept = vercel.snapshots.all[second]
        assert kept.expires_at is not None
        assert round((kept.expires_at - kept.created_at) / DAY) == 30
        assert vercel.running() == []
