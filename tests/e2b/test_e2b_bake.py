"""Templates that agents start fast in: made once, named by what is in them, and never taken half made."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.package_index import PackageIndex

from agenthost.adapter.bake import BakePlan
from agenthost.errors import BootstrapError, ConfigError, ProviderError, UnsupportedError
from agenthost.providers.e2b.provider import E2BProvider
from agenthost.spec import SandboxSpec
from agenthost.supports import ImageRecipe
from agenthost.testing.emulators.e2b import Emulator, Fault, emulator

LIMIT = 240
BUILD = "POST /v3/templates"


async def test_what_is_baked_already_is_found_again(
    provider: E2BProvider, e2b: Emulator, e2b_template: dict[str, Path]
) -> None:
    said: list[str] = []
    (image,) = e2b_template
    assert await provider.build(ImageRecipe(), on_progress=said.append) == image
    assert said == [f"{image} is there already"]
    assert BUILD not in e2b.calls


async def test_sandboxes_begin_as_the_baked_template_and_have_its_size(
    provider: E2BProvider, e2b_template: dict[str, Path]
) -> None:
    (image,) = e2b_template
    box = await provider.create(SandboxSpec(cpu=2, memory_mib=1024), needs_sdk=True)
    try:
        told = (await box.info()).resources
        assert told["template"] == image.partition(":")[0]
        assert (told["cpu"], told["memory"]) == ("2", "2048 MiB")
    finally:
        await box.terminate()


def plan(recipe: ImageRecipe, **size: Any) -> BakePlan:
    """Return what a provider with templates of a size makes of a recipe."""
    return E2BProvider(api_key="e2b_x", **size).plan(recipe)


async def test_a_template_that_was_never_built_to_its_end_is_not_taken() -> None:
    async with emulator() as empty, E2BProvider(**empty.options) as other:
        name = plan(ImageRecipe()).name
        empty.templates.request({"name": name})  # somebody's build that died
        box = await other.create(SandboxSpec())
        try:
            assert (await box.info()).resources["template"] == "base"
        finally:
            await box.terminate()
        with pytest.raises(UnsupportedError, match="no template was baked"):
            await other.create(SandboxSpec(cpu=1))


async def test_a_build_that_fails_says_why_and_leaves_nothing() -> None:
    async with emulator(build_env={"PIP_NO_INDEX": "1"}) as empty, E2BProvider(**empty.options) as provider:
        with anyio.fail_after(LIMIT), pytest.raises(ProviderError, match="could not be built") as caught:
            await provider.build(ImageRecipe())
        assert "No matching distribution found for claude-agent-sdk" in str(caught.value)
        assert list(empty.templates.all) == ["base"]
        asked = empty.templates.asked
    assert asked == {"cpuCount": 2, "memoryMB": 2048, "minFreeDiskMb": 5120}


async def test_a_base_that_is_not_there_is_named() -> None:
    async with emulator() as empty, E2BProvider(**empty.options) as provider:
        with pytest.raises(ConfigError, match="no-such-base"):
            await provider.build(ImageRecipe(base="no-such-base"))
        assert list(empty.templates.all) == ["base"]


@pytest.mark.parametrize("call", [BUILD, "POST /v2/templates/"])
async def test_cancelled_wherever_it_is_it_leaves_nothing(call: str) -> None:
    async with emulator(build_env={"PIP_NO_INDEX": "1"}) as empty, E2BProvider(**empty.options) as provider:
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                fault = empty.faults.add(Fault(call, hold=True))
                tasks.start_soon(provider.build, ImageRecipe())
                await fault.struck.wait()
                tasks.cancel_scope.cancel()
                fault.release()
            await empty.settled()
        assert list(empty.templates.all) == ["base"]


@pytest.mark.full
async def test_without_a_template_the_sdk_is_installed_with_one_warning(
    package_index: PackageIndex, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="agenthost.providers.e2b")
    said: list[str] = []
    async with (
        package_index.serving() as environment,
        emulator(env=environment) as empty,
        E2BProvider(**empty.options) as provider,
    ):
        with anyio.fail_after(LIMIT):
            box = await provider.create(SandboxSpec(), needs_sdk=True, on_progress=said.append)
        try:
            done = await box.exec(["test", "-d", "/home/user/.agenthost/site/claude_agent_sdk"])
            assert done.exit_code == 0
        finally:
            await box.terminate()
    assert said[0].startswith("installing claude-agent-sdk")
    assert len([one for one in caplog.records if "agenthost bake e2b" in one.message]) == 1


@pytest.mark.full
async def test_where_nothing_can_be_installed_the_error_names_what_helps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nowhere = {"PIP_NO_INDEX": "1"}
    async with emulator(env=nowhere) as empty, E2BProvider(**empty.options) as provider:
        caplog.set_level(logging.WARNING, logger="agenthost.providers.e2b")
        for _ in range(2):
            with anyio.fail_after(LIMIT), pytest.raises(BootstrapError, match="agenthost bake e2b"):
                await provider.create(SandboxSpec(), needs_sdk=True)
        assert empty.boxes.all == {}
        assert len([one for one in caplog.records if "agenthost bake e2b" in one.message]) == 1


@pytest.mark.parametrize("size", [{"cpu": 0}, {"memory_mib": 1023}, {"free_disk_mib": 5119}])
async def test_a_template_that_is_too_small_for_the_sdk_is_refused_before_anything_is_asked(
    e2b: Emulator, size: dict[str, Any]
) -> None:
    before = len(e2b.calls)
    async with E2BProvider(**e2b.options, **size) as provider:
        with pytest.raises(ConfigError, match=f"{next(iter(size))}=.*at least"):
            await provider.build(ImageRecipe())
    assert len(e2b.calls) == before


async def test_a_bake_that_fails_leaves_what_another_one_has_made_meanwhile() -> None:
    async with emulator(build_env={"PIP_NO_INDEX": "1"}) as empty, E2BProvider(**empty.options) as provider:
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                fault = empty.faults.add(Fault("POST /v2/templates/", hold=True))
                tasks.start_soon(provider.build, ImageRecipe())
                await fault.struck.wait()
                (template,) = (one for one in empty.templates.all.values() if one.name != "base")
                template.tags["ready"] = next(iter(template.builds))  # as the other one does at its end
                tasks.cancel_scope.cancel()
                fault.release()
            await empty.settled()
        assert len(empty.templates.all) == 2
