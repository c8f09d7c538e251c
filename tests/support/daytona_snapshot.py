"""The snapshot that the daytona provider's sandboxes begin with: baked once in a run."""

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
def daytona_snapshot(package_index: PackageIndex, run_directory: RunDirectory) -> dict[str, Path]:
    """Give what the provider bakes, built by the real client: the site of a snapshot, by its name."""
    # Here, because every run loads this file and most have no use for it.
    from agenthost.providers.daytona.provider import DaytonaProvider
    from agenthost.testing.emulators.daytona import emulator

    async def bake(directory: Path) -> None:
        async with (
            package_index.serving() as environment,
            emulator(build_env=environment) as daytona,
            DaytonaProvider(**daytona.options) as provider,
        ):
            made = daytona.snapshots.all[await provider.build(ImageRecipe())]
            assert made.site is not None
            (directory / "name").write_text(made.name)
            shutil.move(made.site, directory / "site")

    baked = run_directory.once("daytona-snapshot", partial(anyio.run, bake))
    return {(baked / "name").read_text(): baked / "site"}
