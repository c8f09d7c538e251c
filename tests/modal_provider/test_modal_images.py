"""Images at Modal: what is baked is found again by what went into it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from modal_provider.accounts import assert_clean
from support.package_index import PackageIndex

from agenthost.adapter.bake import BakePlan
from agenthost.adapter.bootstrap import host_sdk_version
from agenthost.errors import BootstrapError, ConfigError, ProviderError
from agenthost.providers.modal.provider import ModalProvider
from agenthost.spec import NetworkPolicy, SandboxSpec
from agenthost.supports import ImageRecipe
from agenthost.testing.emulators.modal import ModalEmulator, emulator

LIMIT = 400


@pytest.fixture(scope="module")
async def bare(anyio_backend: str) -> AsyncIterator[ModalEmulator]:
    """Give an emulator without images, whose builder reaches no index of packages."""
    del anyio_backend
    async with emulator(build_env={"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"}) as served:
        yield served
        assert_clean(served)


def plan(recipe: ImageRecipe, **options: Any) -> BakePlan:
    return ModalProvider(token_id="ak-1", token_secret="as-1", **options).plan(recipe)


async def test_what_is_baked_already_is_found_again_and_not_built(
    provider: ModalProvider, modal: ModalEmulator
) -> None:
    said: list[str] = []
    before = modal.calls.count("ImageGetOrCreate")
    image = await provider.build(ImageRecipe(), on_progress=said.append)
    assert modal.calls.count("ImageGetOrCreate") == before
    assert said == [f"{image} is there already"]


@pytest.mark.full
async def test_a_sandbox_is_made_from_what_was_baked_unless_told_otherwise(
    provider: ModalProvider, modal: ModalEmulator
) -> None:
    image = await provider.build(ImageRecipe())
    said: list[str] = []
    box = await provider.create(SandboxSpec(), needs_sdk=True, on_progress=said.append)
    try:
        assert modal.definition(box.id).image_id == image
        assert said == []  # nothing had to be installed
        program = "import claude_agent_sdk as sdk; print(sdk.__version__, sdk.__cached__)"
        known = await box.exec(["python3", "-c", program], env={"PYTHONPATH": "/opt/agenthost/site"})
        version, cached = known.stdout.decode().split()
        assert version == host_sdk_version()
        assert (await box.exec(["test", "-e", cached])).exit_code == 0
    finally:
        await box.terminate()


@pytest.mark.full
async def test_the_default_image_names_its_python_and_a_registrys_has_no_entry_point(
    bare: ModalEmulator,
) -> None:
    async with ModalProvider(**bare.options) as provider:
        for image, first in ((None, "FROM python:3.13"), ("python:3.12-slim", "FROM python:3.12-slim")):
            box = await provider.create(SandboxSpec(image=image))
            try:
                commands = bare.commands(bare.definition(box.id).image_id)
                assert commands[0].startswith(first)
                assert ("ENTRYPOINT []" in commands) is (image is not None)
            finally:
                await box.terminate()


async def test_a_step_that_fails_is_told_with_what_was_printed(bare: ModalEmulator) -> None:
    said: list[str] = []
    async with ModalProvider(**bare.options) as provider:
        with anyio.fail_after(LIMIT), pytest.raises(ProviderError) as caught:
            await provider.build(ImageRecipe(), on_progress=said.append)
    assert "claude-agent-sdk" in str(caught.value)
    assert said[-1] == f"installing claude-agent-sdk {host_sdk_version()}"


async def test_without_an_image_or_an_index_the_error_names_bake(bare: ModalEmulator) -> None:
    async with ModalProvider(**bare.options) as provider:
        with anyio.fail_after(LIMIT), pytest.raises(BootstrapError, match="agenthost bake modal"):
            await provider.create(SandboxSpec(network=NetworkPolicy.none()), needs_sdk=True)
    assert bare.running() == []


async def test_an_image_that_is_not_there_is_refused(bare: ModalEmulator) -> None:
    async with ModalProvider(**bare.options) as provider:
        with pytest.raises(ConfigError, match="im-nowhere"):
            await provider.create(SandboxSpec(image="im-nowhere"))
        with pytest.raises(ConfigError, match="not an image of Modal's"):
            await provider.build(ImageRecipe(base="im-nowhere"))


@pytest.mark.full
async def test_made_anew_it_is_built_step_by_step_once_more(
    package_index: PackageIndex, tmp_path: Path
) -> None:
    said: list[str] = []
    with anyio.fail_after(LIMIT):
        async with (
            package_index.serving() as environment,
            emulator(images=tmp_path, build_env=environment) as modal,
            ModalProvider(**modal.options) as provider,
        ):
            first = await provider.build(ImageRecipe())
            built = modal.built()
            box = await provider.create(SandboxSpec())
            try:
                second = await provider.build(ImageRecipe(), force=True, on_progress=said.append)
                # The two steps on top of Modal's own base, which is what it was.
                assert modal.built() == [*built, *built[-2:]]
                assert built[-1] == second
                # Who runs on the image of before has lost nothing.
                found = await box.exec(["test", "-e", "/opt/agenthost/site/claude_agent_sdk/__init__.py"])
                assert found.exit_code == 0
            finally:
                await box.terminate()
    assert said[1].startswith("installing")
    assert first == second  # its id is a hash of what it is made of, here


@pytest.mark.full
async def test_the_sdk_of_the_hosts_version_is_installed_where_no_image_has_it(
    package_index: PackageIndex,
) -> None:
    said: list[str] = []
    with anyio.fail_after(LIMIT):
        async with (
            package_index.serving() as environment,
            emulator() as modal,
            ModalProvider(**modal.options) as provider,
        ):
            box = await provider.create(SandboxSpec(env=environment), needs_sdk=True, on_progress=said.append)
            await box.terminate()
    assert said[0].startswith(f"installing claude-agent-sdk {host_sdk_version()}")
