"""Where agenthost keeps what must outlive a process."""

from __future__ import annotations

import os
from pathlib import Path


def state_directory() -> Path:
    """Return ``AGENTHOST_STATE_DIR``, else ``agenthost`` in ``XDG_STATE_HOME`` or ``~/.local/state``."""
    named = os.environ.get("AGENTHOST_STATE_DIR")
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "agenthost"
