"""What every test of the modal provider gets: an emulator of Modal's API, and Modal's client between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from modal_provider.accounts import assert_clean
from modal_provider.images import end_thread_of_the_client

from agenthost.providers.modal.provider import ModalProvider
from agenthost.testing.emulators.modal import ModalEmulator, emulator


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on asyncio alone, as Modal's client does; that trio is refused has a test."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def no_profile() -> Iterator[None]:
    """Have no profile of this machine's owner: Modal's client has read it when it was imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modal.config._user_config", {})
        yield


@pytest.fixture(autouse=True)
def no_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing of this machine's owner in the environment."""
    for name in ("TOKEN_ID", "TOKEN_SECRET", "SERVER_URL", "ENVIRONMENT", "PROFILE"):
        monkeypatch.delenv(f"MODAL_{name}", raising=False)


@pytest.fixture(scope="module")
async def modal(anyio_backend: str, modal_images: Path) -> AsyncIterator[ModalEmulator]:
    """Give the emulator, as hostile as it is."""
    del anyio_backend
    async with emulator(images=modal_images) as served:
        yield served
        assert_clean(served)


@pytest.fixture(scope="module")
async def bare(anyio_backend: str) -> AsyncIterator[ModalEmulator]:
    """Give an emulator without the SDK in any image, for tests in which no agent lives."""
    del anyio_backend
    async with emulator() as served:
        yield served
        assert_clean(served)


@pytest.fixture(scope="module")
async def provider(modal: ModalEmulator) -> AsyncIterator[ModalProvider]:
    """Give the provider, open."""
    async with ModalProvider(**modal.options) as opened:
        yield opened


@pytest.fixture(scope="session", autouse=True)
def no_thread_of_the_client() -> Iterator[None]:
    """End it with the run."""
    yield
    end_thread_of_the_client()
