"""Shorter times for a modal provider, and a look at what an emulator has left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agenthost.providers.modal.client import ModalVendor
from agenthost.providers.modal.provider import ModalProvider
from agenthost.providers.modal.settings import Settings, Times
from agenthost.testing.emulators.modal import ModalEmulator

BOOT = "/root/.agenthost"


def vendor_of(served: ModalEmulator) -> ModalVendor:
    """Return a client of an emulator, to be closed."""
    return ModalVendor(Settings(**served.options), Times(), BOOT)


def assert_clean(served: ModalEmulator) -> None:
    """Nothing is left, and nothing was requested that the emulator does not do."""
    assert served.running() == []
    assert served.faults.unknown == []


async def shorten(provider: ModalProvider, **times: Any) -> None:
    """Have calls take no longer than this from now on. Opening the client is not among them."""
    async for _ in provider.list({"no": "sandbox"}):
        pass
    vendor = provider.vendor
    vendor.times = replace(vendor.times, **times)
    if "create" in times:
        provider.making = vendor.times.create + 30.0
