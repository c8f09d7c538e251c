"""An emulator of Daytona on loopback, for the ``daytona`` provider and for Daytona's own client."""

from agenthost.testing.emulators.base.faults import Fault
from agenthost.testing.emulators.daytona.emulator import Emulator, emulator

__all__ = ["Emulator", "Fault", "emulator"]
