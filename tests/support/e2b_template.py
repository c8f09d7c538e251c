"""The template that the e2b provider's sandboxes begin as: baked once in a run."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import anyio
import pytest
from support.package_index import PackageIndex
from support.run_directory import RunDirectory

from agenthost.supports import ImageRecipe


@pytest.fixture(scope="session")
def e2b_template(package_index: PackageIndex, run_directory: RunDirectory) -> dict[str, Path]:
    """Give the template that the provider bakes, built by itself."""
    # Here, because every run loads this file and most have no use for E2B's client.
    from agenthost.providers.e2b.provider import E2BProvider
    from agenthost.testing.emulators.e2b import emulator

    async def bake(directory: Path) -> None:
        async with (
            package_index.serving() as environment,
            emulator(build_env=environment) as e2b,
            E2BProvider(**e2b.options) as provider,
        ):
            image = await provider.build(ImageRecipe())
            (directory / "name").write_text(image)
            shutil.move(e2b.site(image), directory / "site")

    baked = run_directory.once("e2b-template", partial(anyio.run, bake))
    return {(baked / "name").read_text(): baked / "site"}


@pytest.fixture(scope="session")
def fly_images(e2b_template: dict[str, Path]) -> dict[str, Path]:
    """Give the image that the fly provider's sandboxes begin as: what an image has of the SDK is the same."""
    from agenthost.providers.fly.machine import IMAGE

    (site,) = e2b_template.values()
    return {IMAGE: site}


@pytest.fixture(scope="session")
def cloudflare_site(e2b_template: dict[str, Path]) -> Path:
    """Give what the image of a Worker has of the SDK: the same as any other image."""
    (site,) = e2b_template.values()
    return site
