"""Snapshots: what a sandbox had on its disk. None has a name but that of its sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agenthost.testing.emulators.base.clock import Clock
from agenthost.testing.emulators.vercel.api import Refusal
from agenthost.testing.emulators.vercel.boxes import REGION


@dataclass(slots=True)
class Snapshot:
    """One snapshot.

    Attributes:
        source: The name of its sandbox.
        expires_at: Seconds since the epoch; None is never.
        files: What was in the home and the working directory, as an archive.
        site: What was at /opt/agenthost/site.
    """

    id: str
    source: str
    session: str
    created_at: float
    expires_at: float | None
    files: bytes
    site: Path | None
    status: str = "created"

    def as_json(self) -> dict[str, Any]:
        """Return it as Vercel describes it."""
        at = round(self.created_at * 1000)
        end = {} if self.expires_at is None else {"expiresAt": round(self.expires_at * 1000)}
        told = {"id": self.id, "sourceSessionId": self.session, "region": REGION, "regions": [REGION]}
        times = {"createdAt": at, "updatedAt": at, **end}
        return {
            **told,
            **times,
            "status": self.status,
            "sizeBytes": len(self.files),
            "creationMethod": "manual",
        }


class Snapshots:
    """All snapshots of the project.

    Args:
        clock: The time by which they expire.
    """

    def __init__(self, clock: Clock) -> None:
        self.all: dict[str, Snapshot] = {}
        self._clock = clock

    def of(self, name: str) -> list[Snapshot]:
        """Return those of a sandbox, newest first; of every sandbox where the name is empty."""
        found = [one for one in self.all.values() if name in ("", one.source) and self._is_there(one)]
        return sorted(found, key=lambda one: one.created_at, reverse=True)

    def usable(self, snapshot_id: str) -> Snapshot:
        """Return one. Raises Refusal: there is none, or not any more."""
        found = self.all.get(snapshot_id)
        if found is None or not self._is_there(found):
            raise Refusal(410, "snapshot_not_found", f"Snapshot '{snapshot_id}' not found.")
        return found

    def _is_there(self, one: Snapshot) -> bool:
        return one.status == "created" and (one.expires_at is None or one.expires_at > self._clock.now())
