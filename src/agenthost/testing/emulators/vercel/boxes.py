"""What Vercel knows of a sandbox and of its session."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agenthost.testing.emulators.base.boxes import Box
from agenthost.testing.emulators.base.image_build import ImageBuild
from agenthost.testing.emulators.base.machines import Machine
from agenthost.testing.emulators.vercel.programs import Program

HOME = "/vercel"
WORKDIR = "/workspace"  # the machines' root is read-only but for this, the home and /tmp
PROJECT, TEAM = "prj_emulated", "team_emulated"
REGION = "iad1"
_LETTERS = string.ascii_letters + string.digits


def new_id(prefix: str) -> str:
    """Return an id as Vercel's are."""
    return prefix + "".join(secrets.choice(_LETTERS) for _ in range(28))


@dataclass(slots=True, kw_only=True)
class VercelBox(Box):
    """One session of a sandbox. Its id is the sandbox's name, a dot and the session's id.

    Attributes:
        body: What its sandbox was asked to be.
        url: Where its ports are reached.
        ports: By the subdomains of each.
        site: What its snapshot has brought to /opt/agenthost/site.
        snapshot: The newest snapshot of its sandbox, with which another session begins.
        programs: By their ids.
        build: Where its programs run that are root.
        removed: Whether its sandbox was removed.
    """

    name: str
    session: str
    machine: Machine  # pyright: ignore[reportIncompatibleVariableOverride]  # it has one from the first moment
    body: Mapping[str, Any]
    url: str
    ports: Mapping[str, int]
    site: Path | None
    snapshot: str | None = None
    stopped_at: float | None = None
    removed: bool = False
    build: ImageBuild | None = None
    programs: dict[str, Program] = field(default_factory=dict[str, Program])

    @property
    def is_running(self) -> bool:
        """Whether its machine runs."""
        return not self.ended.is_set()

    def sandbox_json(self) -> dict[str, Any]:
        """Return the sandbox as Vercel describes it."""
        size: Mapping[str, Any] = self.body.get("resources") or {}
        given = {name: self.body[name] for name in ("tags", "image") if self.body.get(name)}
        return {
            "name": self.name,
            "currentSessionId": self.session,
            "status": self.state,
            "statusUpdatedAt": _ms(self.stopped_at or self.started_at),
            "persistent": bool(self.body.get("persistent", True)),
            "region": self.body.get("region") or REGION,
            "vcpus": size.get("vcpus", 2),
            "memory": size.get("vcpus", 2) * 2048,
            "timeout": self.body.get("timeout", 300_000),
            "cwd": HOME,
            "createdAt": _ms(self.started_at),
            "updatedAt": _ms(self.started_at),
            **({"expiresAt": _ms(self.end_at)} if self.is_running else {}),
            **({"currentSnapshotId": self.snapshot} if self.snapshot else {}),
            **given,
        }

    def session_json(self) -> dict[str, Any]:
        """Return the session as Vercel describes it."""
        told = self.sandbox_json()
        same = ("status", "region", "vcpus", "memory", "cwd", "createdAt", "updatedAt")
        return {
            **{name: told[name] for name in same},
            "id": self.session,
            "sourceSandboxName": self.name,
            "projectId": PROJECT,
            "runtime": "node24",
            "timeout": _ms(self.end_at - self.started_at),
            "requestedAt": told["createdAt"],
            "startedAt": told["createdAt"],
            **({"stoppedAt": _ms(self.stopped_at)} if self.stopped_at else {}),
        }

    def whole_json(self, *, resumed: bool = False) -> dict[str, Any]:
        """Return both, as most calls answer."""
        told = {"sandbox": self.sandbox_json(), "session": self.session_json()}
        return {**told, "routes": self.routes_json(), "resumed": resumed}

    def routes_json(self) -> list[dict[str, Any]]:
        """Return its ports as Vercel describes them."""
        return [
            {"url": f"{self.url}/{subdomain}", "subdomain": subdomain, "port": port}
            for subdomain, port in self.ports.items()
        ]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
