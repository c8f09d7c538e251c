"""What Fly knows of a machine, and what it does with it as a whole."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import anyio

from agenthost.testing.emulators.base.boxes import Box
from agenthost.testing.emulators.base.rest import Refusal

HOME = "/root"


@dataclass(slots=True, kw_only=True)
class FlyBox(Box):
    """One machine.

    Attributes:
        state: In Fly's words: ``created``, ``started``, ``stopped``, ``suspended``, ``destroyed``.
        unrouted: How many more requests the proxy answers itself, because it does not know the machine yet.
        requests: How many requests the proxy has open for it.
        boots: How often its main program was started, and was to be.
        keeps_memory: Whether a suspended machine goes on where it was.
        changed: Set, and replaced, when its state changes.
    """

    app: str
    name: str
    region: str
    config: dict[str, Any]
    state: str = "created"
    end_at: float = math.inf
    unrouted: int = 0
    requests: int = 0
    boots: int = 0
    keeps_memory: bool = True
    instance_id: str = field(default_factory=lambda: secrets.token_hex(13).upper())
    private_ip: str = "::1"
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    changed: anyio.Event = field(default_factory=anyio.Event, repr=False)

    def turn(self, state: str, source: str = "user") -> None:
        """Give it another state."""
        self.state = state
        stamp = int(datetime.now(UTC).timestamp() * 1000)
        event = {"id": secrets.token_hex(13), "type": "state", "status": state, "source": source}
        self.events.insert(0, {**event, "timestamp": stamp})
        changed, self.changed = self.changed, anyio.Event()
        changed.set()

    def require(self, *states: str) -> None:
        """Refuse a call that needs another state."""
        if self.state not in states:
            raise Refusal(412, f"failed_precondition: machine not in state {states[0]}, it is {self.state}")

    @property
    def service(self) -> dict[str, Any] | None:
        """The service through which the proxy reaches it."""
        services: list[dict[str, Any]] = self.config.get("services") or []
        return services[0] if services else None

    @property
    def metadata(self) -> dict[str, str]:
        """What was stored with it."""
        return self.config.get("metadata") or {}

    def described(self) -> dict[str, Any]:
        """Return it as the API describes it: with all of its config."""
        registry, _, rest = self.config["image"].partition("/")
        repository, _, digest = rest.partition("@")
        repository, _, tag = repository.partition(":")
        made = datetime.fromtimestamp(self.started_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "region": self.region,
            "image_ref": {
                "registry": registry,
                "repository": repository,
                "tag": tag,
                "digest": digest or "sha256:" + "0" * 64,
            },
            "instance_id": self.instance_id,
            "private_ip": self.private_ip,
            "created_at": made,
            "updated_at": made,
            "config": self.config,
            "events": self.events,
        }
