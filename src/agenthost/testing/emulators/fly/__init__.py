"""Fly Machines on loopback: the Machines API, and the proxy that leads to ports of machines."""

from __future__ import annotations

from agenthost.testing.emulators.base.faults import Fault
from agenthost.testing.emulators.fly.emulator import Emulator, emulator

__all__ = ["Emulator", "Fault", "emulator"]
