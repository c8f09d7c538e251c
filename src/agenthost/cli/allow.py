"""What ``--allow`` of ``agenthost run`` takes, and whether there is a config at all; quick to import."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path

HERE = Path("agenthost.toml")


class Allow(Enum):
    """What the file of a config may not do alone."""

    network = "network"
    mounts = "mounts"
    bypass = "bypass"
    base_url = "base-url"
    settings = "settings"
    code = "code"
    secrets = "secrets"
    audit = "audit"
    provider_options = "provider-options"


def may_have_config(path: Path | None) -> bool:
    """Tell whether looking for a config is worth importing what reads one: a tenth of a second."""
    return path is not None or HERE.is_file() or any(name.startswith("AGENTHOST_") for name in os.environ)
