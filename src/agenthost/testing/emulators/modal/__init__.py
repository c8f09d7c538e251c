"""Modal's API on loopback: what Modal's own client talks to, without an account.

    async with emulator() as modal, open_provider("modal", **modal.options) as provider:
        ...

It needs the extra ``agenthost[modal]``, whose client brings the messages of the wire, and bubblewrap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenthost.testing.emulators.base.faults import Fault, Faults
from agenthost.testing.emulators.modal.emulator import emulator

if TYPE_CHECKING:
    from agenthost.testing.emulators.modal.world import ModalEmulator

__all__ = ["Fault", "Faults", "ModalEmulator", "emulator"]


def __getattr__(name: str) -> object:
    """Load the class on first use: it needs Modal's client."""
    if name != "ModalEmulator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agenthost.testing.emulators.modal.world import ModalEmulator

    return ModalEmulator
