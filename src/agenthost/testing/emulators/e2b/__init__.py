"""E2B on loopback: its control plane and its daemon in sandboxes, for the vendor's own client."""

from __future__ import annotations

from agenthost.testing.emulators.base.faults import Fault
from agenthost.testing.emulators.e2b.emulator import Emulator, emulator

__all__ = ["Emulator", "Fault", "emulator"]
