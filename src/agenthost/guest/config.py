"""The configuration that travels with the guest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BootConfig:
    """What ``boot.json`` holds. It lets nobody in: no token can be computed from it.

    Attributes:
        control_verifier: Recognises who has the control token.
        guest_key: Proves this guest to its hosts, hexadecimal; None where only they have its socket.
        lifetime: Seconds from the guest's start; None is no end of its own.
        agent: An agent that is started with the guest, as the parameters of the call ``start``.
        http: The TCP port that hosts reach the guest through, where there is one: ``address``, ``port`` and
            perhaps ``options`` of ``agenthost.guest.http.port.Port``. ``http.pyz`` then lies beside.
    """

    control_verifier: str
    guest_key: str | None
    workdir: str
    spool_dir: str
    env: dict[str, str]
    lifetime: float | None = None
    agent: dict[str, Any] | None = None
    http: dict[str, Any] | None = None


def read_config(path: str) -> BootConfig:
    """Return what a file holds."""
    with open(path, encoding="utf-8") as file:
        return BootConfig(**json.load(file))
