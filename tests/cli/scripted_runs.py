"""The key of commands that ask a scripted model, and the sandboxes that commands leave."""

from __future__ import annotations

import os
from pathlib import Path

KEY = "sk-ant-cli-0123456789"


def sandboxes() -> list[str]:
    """Return the paths of all local sandboxes in the state directory."""
    return [str(path) for path in Path(os.environ["AGENTHOST_STATE_DIR"]).glob("local*/*")]
