"""The images that the modal provider's sandboxes begin as: baked once in a run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest
from support.package_index import PackageIndex
from support.run_directory import RunDirectory

from agenthost.supports import ImageRecipe


@pytest.fixture(scope="session")
def modal_images(package_index: PackageIndex, run_directory: RunDirectory) -> Iterator[Path]:
    """Give a directory of images with the baked one among them, made through the adapter."""
    # Here, because every run loads this file and most have no use for Modal's client.
    from agenthost.providers.modal.provider import ModalProvider
    from agenthost.testing.emulators.modal import emulator

    async def bake(directory: Path) -> None:
        async with (
            package_index.serving() as environment,
            emulator(images=directory, build_env=environment) as modal,
            ModalProvider(**modal.options) as provider,
        ):
            await provider.build(ImageRecipe())

    baked = run_directory.once("modal-images", partial(anyio.run, bake))
    with tempfile.TemporaryDirectory(prefix="modal-images-") as directory:
        # An emulator adds what it builds: each worker has a directory of its own, with the same files in it.
        own = shutil.copytree(baked, Path(directory, "own"), symlinks=True, copy_function=os.link)
        yield own
    end_thread_of_the_client()


def end_thread_of_the_client() -> None:
    """End the thread that Modal's client keeps for the whole process, with its event loop and sockets."""
    import modal._utils.async_utils as theirs

    # Else only the end of the process does it.
    getattr(theirs.synchronizer, "_close_loop")()  # noqa: B009 - it has no public name
