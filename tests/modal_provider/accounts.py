"""Shorter times for a modal provider, and a look at what an emulator has left."""

from __future__ import annotations

import pytest

from agenthost.providers.modal import carrier, client, workarounds
from agenthost.providers.modal.client import ModalVendor
from agenthost.providers.modal.provider import ModalProvider
from agenthost.testing.emulators.modal import ModalEmulator

BOOT = "/root/.agenthost"


def vendor_of(served: ModalEmulator) -> ModalVendor:
    """Return a client of an emulator, to be closed."""
    return ModalProvider(**served.options).make_vendor()


def assert_clean(served: ModalEmulator) -> None:
    """Nothing is left, and nothing was requested that the emulator does not do."""
    assert served.running() == []
    assert served.faults.unknown == []


async def shorten(
    provider: ModalProvider,
    patch: pytest.MonkeyPatch,
    *,
    call: float | None = None,
    create: float | None = None,
    close: float | None = None,
) -> None:
    """Have calls take no longer than this from now on. Opening the client is not among them."""
    async for _ in provider.list({"no": "sandbox"}):
        pass
    if call is not None:
        provider.vendor.calls.seconds = call
    if create is not None:
        patch.setattr(client, "CREATING", create)
        provider.making = create + 30.0
    if close is not None:
        for module in (carrier, workarounds):
            patch.setattr(module, "CLOSING", close)
