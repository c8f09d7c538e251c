"""Times of a modal provider that has its client and app already: what is shortened is one call alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from agenthost.providers.modal.account import Account
from agenthost.providers.modal.provider import ModalProvider
from agenthost.testing.emulators.modal import ModalEmulator


def account_of(provider: ModalProvider) -> Account:
    """Return what an open provider asks through, once it has asked anything."""
    return cast("Account", vars(provider)["_made"])


def assert_clean(served: ModalEmulator) -> None:
    """Nothing is left, and nothing was asked that the emulator does not do."""
    assert served.running() == []
    assert served.faults.unknown == []


async def shorten(provider: ModalProvider, **times: Any) -> None:
    """Have calls take no longer than this from now on. Opening the client is not among them."""
    async for _ in provider.list({"no": "sandbox"}):
        pass
    account = account_of(provider)
    account.times = replace(account.times, **times)
