"""Processor time of the processes that an agent is made of."""

from __future__ import annotations

import os
from pathlib import Path

# What each process has on its command line; a process that wraps another one has it too.
_MARKS = {"guest.pyz": "guest", "runner.pyz": "runner", "_bundled/claude": "cli"}
_WRAPPER = "bwrap"


def processor_seconds() -> dict[str, float]:
    """Return seconds of user and system time so far, by role: host (this process), guest, runner, cli."""
    found: dict[str, float] = {}
    tick = os.sysconf("SC_CLK_TCK")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
            command = (entry / "cmdline").read_text()
        except OSError:  # it has just ended
            continue
        role = "host" if int(entry.name) == os.getpid() else None
        if role is None and _WRAPPER not in command.split("\0")[0]:
            role = next((role for mark, role in _MARKS.items() if mark in command), None)
        if role is not None:
            fields = stat[stat.rindex(")") + 2 :].split()
            found[role] = found.get(role, 0.0) + (int(fields[11]) + int(fields[12])) / tick
    return found
