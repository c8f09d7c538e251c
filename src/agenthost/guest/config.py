"""The configuration that travels with the guest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BootConfig:
    """What ``boot.json`` holds. Digests only, never a token.

    Attributes:
        lifetime: Seconds from the guest's start; None is no end of its own.
        agent: An agent that is started with the guest, as the parameters of the call ``start``.
    """

    control_digest: str
    workdir: str
    spool_dir: str
    env: dict[str, str]
    lifetime: float | None = None
    agent: dict[str, Any] | None = None


def read_config(path: str) -> BootConfig:
    """Return what a file holds."""
    with open(path, encoding="utf-8") as file:
        return BootConfig(**json.load(file))
