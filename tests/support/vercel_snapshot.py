"""The snapshot that the vercel provider's sandboxes begin with: baked once in a run."""

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
def vercel_snapshot(package_index: PackageIndex, run_directory: RunDirectory) -> dict[str, Path]:
    """Give what the provider bakes, built by itself: the site of a snapshot, by the name of its sandbox."""
    # Here, because every run loads this file and most have no use for it.
    from agenthost.providers.vercel.provider import VercelProvider
    from agenthost.testing.emulators.vercel import emulator

    async def bake(directory: Path) -> None:
        async with (
            package_index.serving() as environment,
            emulator(build_env=environment) as vercel,
            VercelProvider(**vercel.options) as provider,
        ):
            image = await provider.build(ImageRecipe())
            made = vercel.snapshots.all[image]
            assert made.site is not None
            (directory / "name").write_text(made.source)
            shutil.move(made.site, directory / "site")

    baked = run_directory.once("vercel-snapshot", partial(anyio.run, bake))
    return {(baked / "name").read_text(): baked / "site"}
