"""The template that the e2b provider's sandboxes begin as: baked once by each process that needs it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from support.package_index import PackageIndex

from agenthost.supports import ImageRecipe


@pytest.fixture(scope="session")
def e2b_template(package_index: PackageIndex) -> Iterator[dict[str, Path]]:
    """Give the template that the provider bakes, built once in a run by itself."""
    # Here, because every run loads this file and most have no use for E2B's client.
    from agenthost.providers.e2b.provider import E2BProvider
    from agenthost.testing.emulators.e2b import emulator

    with tempfile.TemporaryDirectory(prefix="e2b-") as directory:
        os.chmod(directory, 0o711)  # a host that is root runs machines as other users
        kept = Path(directory, "site")

        async def bake() -> str:
            async with (
                package_index.serving() as environment,
                emulator(build_env=environment) as e2b,
                E2BProvider(**e2b.options) as provider,
            ):
                image = await provider.build(ImageRecipe())
                shutil.move(e2b.site(image), kept)
                return image

        yield {anyio.run(bake): kept}
