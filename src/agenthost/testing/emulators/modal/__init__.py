"""Modal's API on loopback: what Modal's own client talks to, without an account.

    async with emulator() as modal, open_provider("modal", **modal.options) as provider:
        ...

It needs the extra ``agenthost[modal]``, whose client brings the messages of the wire, and bubblewrap.
"""

from agenthost.testing.emulators.modal.emulator import ModalEmulator, emulator
from agenthost.testing.emulators.modal.faults import Faults

__all__ = ["Faults", "ModalEmulator", "emulator"]
