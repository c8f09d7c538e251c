"""What Daytona knows of a sandbox."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agenthost.testing.emulators.base.boxes import Box
from agenthost.testing.emulators.base.machines import Machine
from agenthost.testing.emulators.daytona.sessions import Session

USER, HOME, WORKDIR = "daytona", "/home/daytona", "/workspace"
ORGANIZATION, TARGET = "org-emulated", "us"
AUTO_STOP = 15  # minutes, of a sandbox whose maker states none


@dataclass(slots=True, kw_only=True)
class DaytonaBox(Box):
    """One sandbox.

    Attributes:
        body: What was asked for.
        snapshot: The snapshot's name, and its size as Daytona describes it.
        url: Of the emulator.
        token: What its ports ask for.
        auto_stop, auto_delete, ttl: Minutes. 0 is never, at once, and never.
        active_at: When something from outside was last heard of, in seconds since the epoch.
        looks: How often it was looked at.
        sessions: By their ids.
    """

    name: str
    machine: Machine  # pyright: ignore[reportIncompatibleVariableOverride]  # it has one from the first moment
    body: Mapping[str, Any]
    snapshot: str
    size: Mapping[str, int]
    site: Path | None
    labels: dict[str, str]
    url: str
    token: str
    auto_stop: int
    auto_delete: int
    ttl: int
    active_at: float
    looks: int = 0
    sessions: dict[str, Session] = field(default_factory=dict[str, Session])

    def touch(self, now: float) -> None:
        """Count something from outside."""
        self.active_at = now
        self.plan()

    def plan(self) -> None:
        """Work out when it ends next."""
        idle = self.active_at + 60 * self.auto_stop if self.auto_stop else math.inf
        self.move_end(min(idle, self.destroyed_at or math.inf))

    @property
    def destroyed_at(self) -> float | None:
        """When its lifetime is over, in seconds since the epoch."""
        return self.started_at + 60 * self.ttl if self.ttl else None

    def as_json(self) -> dict[str, Any]:
        """Return it as Daytona describes it."""
        destroyed = self.destroyed_at
        return {
            "id": self.id,
            "organizationId": ORGANIZATION,
            "name": self.name,
            "user": USER,
            "env": self.body.get("env") or {},
            "labels": self.labels,
            "public": False,
            "networkBlockAll": bool(self.body.get("networkBlockAll")),
            "networkAllowList": self.body.get("networkAllowList"),
            "domainAllowList": self.body.get("domainAllowList"),
            "kvm": False,
            "target": self.body.get("target") or TARGET,
            "snapshot": self.snapshot,
            "gpu": 0,
            **self.size,
            "state": self.state,
            "sandboxClass": "container",
            "autoStopInterval": self.auto_stop,
            "autoDeleteInterval": self.auto_delete,
            **({"autoDestroyAt": iso(destroyed)} if destroyed is not None else {}),
            "createdAt": iso(self.started_at),
            "updatedAt": iso(self.started_at),
            "lastActivityAt": iso(self.active_at),
            "toolboxProxyUrl": f"{self.url}/toolbox",
        }


def iso(seconds: float) -> str:
    """Return a time as Daytona writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
