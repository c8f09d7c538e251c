"""What every test of the modal provider gets: an emulator of Modal's API, and Modal's client between."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from support.package_index import PackageIndex

from agenthost.providers.modal.provider import ModalProvider
from agenthost.supports import ImageRecipe
from agenthost.testing.emulators.modal import ModalEmulator, emulator


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on asyncio alone, as Modal's client does; that trio is refused has a test."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing of this machine's owner in the environment."""
    for name in ("TOKEN_ID", "TOKEN_SECRET", "SERVER_URL", "ENVIRONMENT", "PROFILE"):
        monkeypatch.delenv(f"MODAL_{name}", raising=False)


@pytest.fixture(scope="session")
def images(package_index: PackageIndex) -> Iterator[Path]:
    """Give a directory of images with the baked one among them: made once, through the adapter."""

    async def bake(directory: Path) -> None:
        async with (
            package_index.serving() as environment,
            emulator(images=directory, build_env=environment) as modal,
            ModalProvider(**modal.options) as provider,
        ):
            await provider.build(ImageRecipe())

    with tempfile.TemporaryDirectory(prefix="modal-images-") as directory:
        anyio.run(bake, Path(directory))
        yield Path(directory)


@pytest.fixture(scope="module")
async def modal(anyio_backend: str, images: Path) -> AsyncIterator[ModalEmulator]:
    """Give the emulator, as hostile as it is."""
    del anyio_backend
    async with emulator(images=images) as served:
        yield served


@pytest.fixture(scope="module")
async def provider(modal: ModalEmulator) -> AsyncIterator[ModalProvider]:
    """Give the provider, open."""
    async with ModalProvider(**modal.options) as opened:
        yield opened


@pytest.fixture(scope="session", autouse=True)
def no_thread_of_the_client() -> Iterator[None]:
    """End the thread that Modal's client keeps for the whole process, with its event loop and sockets."""
    yield
    import modal._utils.async_utils as theirs

    # Else only the end of the process does it.
    getattr(theirs.synchronizer, "_close_loop")()  # noqa: B009 - it has no public name
