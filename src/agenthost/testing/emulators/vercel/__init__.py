"""An emulator of Vercel Sandbox on loopback, for the ``vercel`` provider and for Vercel's own client."""

from agenthost.testing.emulators.base.faults import Fault
from agenthost.testing.emulators.vercel.emulator import Emulator, emulator

__all__ = ["Emulator", "Fault", "emulator"]
