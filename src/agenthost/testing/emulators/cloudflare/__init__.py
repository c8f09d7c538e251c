"""An emulator of Cloudflare on loopback: the real Worker, and an engine in place of containers."""

from agenthost.testing.emulators.base.faults import Fault
from agenthost.testing.emulators.cloudflare.emulator import Emulator, emulator

__all__ = ["Emulator", "Fault", "emulator"]
