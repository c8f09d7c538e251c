"""The environment of commands that ask a scripted model, and the sandboxes that commands leave."""

from __future__ import annotations

import os
from pathlib import Path

from agenthost.testing import ScriptedModel

KEY = "sk-ant-cli-0123456789"


def model_env(model: ScriptedModel) -> dict[str, str]:
    """Return the variables with which a command asks a scripted model, whose key is ``KEY``."""
    return {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": KEY}


def sandboxes() -> list[str]:
    """Return the paths of all local sandboxes in the state directory."""
    return [str(path) for path in Path(os.environ["AGENTHOST_STATE_DIR"]).glob("local*/*")]
