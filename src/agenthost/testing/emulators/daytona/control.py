"""Calls about sandboxes and snapshots."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from agenthost.testing.emulators.base.boxes import Boxes, page
from agenthost.testing.emulators.base.clock import Clock
from agenthost.testing.emulators.base.rates import Rate
from agenthost.testing.emulators.daytona import events, websocket
from agenthost.testing.emulators.daytona.about import REFUSED
from agenthost.testing.emulators.daytona.api import Call, Refusal
from agenthost.testing.emulators.daytona.boxes import DaytonaBox
from agenthost.testing.emulators.daytona.snapshots import Snapshot, Snapshots

ROUTES = {
    "GET /api/socket.io/": "listen",
    "POST /api/sandbox": "create",
    "GET /api/sandbox": "list_sandboxes",
    "GET /api/sandbox/{id}": "get",
    "DELETE /api/sandbox/{id}": "delete",
    "POST /api/sandbox/{id}/stop": "stop",
    "PUT /api/sandbox/{id}/labels": "set_labels",
    "POST /api/sandbox/{id}/last-activity": "touch",
    "POST /api/sandbox/{id}/autostop/{minutes}": "set_auto_stop",
    "POST /api/sandbox/{id}/ttl/{minutes}": "set_ttl",
    "GET /api/sandbox/{id}/ports/{port}/preview-url": "preview",
    "GET /api/sandbox/{id}/toolbox-proxy-url": "toolbox_url",
    "GET /api/snapshots": "list_snapshots",
    "POST /api/snapshots": "build",
    "GET /api/snapshots/{id}": "get_snapshot",
    "DELETE /api/snapshots/{id}": "delete_snapshot",
    "GET /api/snapshots/{id}/build-logs-url": "logs_url",
    "GET /api/snapshots/{id}/build-logs": "logs",
}
NETWORK = ("networkBlockAll", "networkAllowList", "domainAllowList")
_FREE_TIER = 3  # the lowest that chooses the network of a sandbox
_MOST_BLOCKS, _LIMIT = 10, 100
# What a create may state, and this emulator does or ignores without harm.
_KNOWN = {
    *("name", "snapshot", "user", "env", "labels", "public", "target", "autoStopInterval", "ttlMinutes"),
    *("autoDeleteInterval", "autoArchiveInterval", "secrets", "volumes", "buildInfo", "spot", *NETWORK),
}


@dataclass(frozen=True, slots=True)
class Organization:
    """What an organization has and may do.

    Attributes:
        tier: From 1 to 4.
        secrets: The names of its secrets.
        most_cores: How many cores its sandboxes may have together.
        ignores_network: Whether the network that a create asks for is forgotten.
    """

    tier: int
    secrets: frozenset[str]
    most_cores: int
    ignores_network: bool = False


Make = Callable[[str, Mapping[str, Any], Snapshot], Awaitable[DaytonaBox]]


class Control:
    """Answers these calls.

    Args:
        boxes: The sandboxes.
        clock: The emulator's time.
        snapshots: The snapshots.
        make: Makes a sandbox of a name, a body and a snapshot.
        end: Ends one.
        organization: What it may do.
        rate: How often sandboxes may be made.
        url: Of the emulator.
        lingers: Whether a sandbox that was deleted is there until it is looked at.
    """

    def __init__(
        self,
        boxes: Boxes[DaytonaBox],
        clock: Clock,
        snapshots: Snapshots,
        make: Make,
        end: Callable[[DaytonaBox], Awaitable[None]],
        *,
        organization: Organization,
        rate: Rate,
        url: str,
        lingers: bool,
    ) -> None:
        self._boxes, self._clock, self._snapshots = boxes, clock, snapshots
        self._make, self._end = make, end
        self._organization, self._rate, self._url = organization, rate, url
        self._lingers = lingers
        self.looks = 1.0  # looks until a new sandbox has started; a test can change that

    def running(self, call: Call) -> DaytonaBox:
        """Return a sandbox that takes calls. Raises Refusal."""
        box = self._box(call)
        if box.state == "creating":
            raise Refusal(409, "Sandbox is not started", "CONFLICT")
        if box.state != "started":
            raise Refusal(410, f"Sandbox is {box.state}", "GONE")
        box.touch(self._clock.now())
        return box

    async def listen(self, call: Call) -> None:
        """Accept the socket for events."""
        if not websocket.is_upgrade(call.exchange):
            raise Refusal(400, "only websocket is a transport here", "BAD_REQUEST")
        await events.listen(call.exchange)

    async def create(self, call: Call) -> tuple[int, object]:
        """Make a sandbox."""
        if (again := self._rate.take()) is not None:
            headers = {"Retry-After-sandbox-create": str(again)}
            raise Refusal(429, "Rate limit exceeded", "TOO_MANY_REQUESTS", headers)
        body = {name: value for name, value in call.body.items() if value is not None}
        if unknown := sorted(name for name in body if name not in _KNOWN):
            raise Refusal(501, f"{REFUSED['field']} {unknown[0]}", "NOT_IMPLEMENTED")
        if body.get("buildInfo"):
            raise Refusal(501, REFUSED["image"], "NOT_IMPLEMENTED")
        self._check(call)
        name = str(body.get("name") or secrets.token_hex(8))
        if any(box.name == name for box in self._boxes.running()):
            raise Refusal(409, f"Sandbox with name {name} already exists", "CONFLICT")
        snapshot = self._snapshots.usable(str(body.get("snapshot") or "daytona-small"))
        cores = sum(box.size["cpu"] for box in self._boxes.running()) + snapshot.size["cpu"]
        if cores > self._organization.most_cores:
            most = self._organization.most_cores
            raise Refusal(403, f"Total CPU limit exceeded. Maximum allowed: {most}.", "FORBIDDEN")
        if self._organization.ignores_network:
            body = {key: value for key, value in body.items() if key not in NETWORK}
        return 200, (await self._make(name, body, snapshot)).as_json()

    async def list_sandboxes(self, call: Call) -> tuple[int, object]:
        """List sandboxes by their labels, newest first."""
        try:
            wanted = cast("dict[str, str]", json.loads(call.query.get("labels") or "{}"))
        except ValueError:
            raise Refusal(400, "labels must be a JSON object", "BAD_REQUEST") from None
        found = [box for box in reversed(self._boxes.listed()) if wanted.items() <= box.labels.items()]
        limit = min(int(call.query.get("limit") or _LIMIT), _LIMIT)
        some, following = page(found, call.query.get("cursor"), limit)
        return 200, {"items": [box.as_json() for box in some], "nextCursor": following}

    async def get(self, call: Call) -> tuple[int, object]:
        """Describe a sandbox, and let what is under way with it be done."""
        box = self._box(call)
        if box.state == "destroying":
            await self._end(box)
            self._box(call)
        answer = box.as_json()
        box.looks += 1
        if box.state == "creating" and box.looks >= self.looks:
            box.state = "started"
        return 200, {**answer, "state": box.state}

    async def delete(self, call: Call) -> tuple[int, object]:
        """Delete a sandbox; the answer comes while that is under way, and the next look ends it."""
        box = self._box(call)
        if self._lingers:
            box.state = "destroying"
        else:
            await self._end(box)
        return 200, box.as_json()

    async def stop(self, call: Call) -> tuple[int, object]:
        """Stop a sandbox."""
        box = self.running(call)
        await self._end(box)
        return 200, {**box.as_json(), "state": "stopping"}

    async def set_labels(self, call: Call) -> tuple[int, object]:
        """Replace the labels."""
        box = self._box(call)
        box.labels = dict(cast("dict[str, str]", call.body.get("labels") or {}))
        return 200, {"labels": box.labels}

    async def touch(self, call: Call) -> tuple[int, object]:
        """Count as something from outside."""
        self._box(call).touch(self._clock.now())
        return 201, None

    async def set_auto_stop(self, call: Call) -> tuple[int, object]:
        """Set the minutes without a call from outside after which the sandbox stops."""
        box = self._box(call)
        box.auto_stop = call.number(1)
        box.plan()
        return 200, box.as_json()

    async def set_ttl(self, call: Call) -> tuple[int, object]:
        """Set the minutes of the lifetime."""
        box = self._box(call)
        box.ttl = call.number(1)
        box.plan()
        return 200, box.as_json()

    async def preview(self, call: Call) -> tuple[int, object]:
        """Return where a port is reached."""
        box, port = self._box(call), call.number(1)
        if not 1 <= port <= 65535:
            raise Refusal(400, "Invalid port", "BAD_REQUEST")
        return 200, {"sandboxId": box.id, "url": f"{self._url}/preview/{port}-{box.id}", "token": box.token}

    async def toolbox_url(self, call: Call) -> tuple[int, object]:
        """Return where the daemon is reached."""
        self._box(call)
        return 200, {"url": f"{self._url}/toolbox"}

    async def list_snapshots(self, call: Call) -> tuple[int, object]:
        """List snapshots."""
        del call
        items = [one.as_json() for one in self._snapshots.all.values()]
        return 200, {"items": items, "total": len(items), "page": 1, "totalPages": 1}

    async def build(self, call: Call) -> tuple[int, object]:
        """Begin to build a snapshot."""
        info = cast("dict[str, Any]", call.body.get("buildInfo") or {})
        size = {"cpu": call.integer("cpu", 1), "memory": call.integer("memory", 1)}
        size["disk"] = call.integer("disk", 3)
        if call.body.get("imageName") or info.get("contextHashes"):
            raise Refusal(501, REFUSED["image"], "NOT_IMPLEMENTED")
        made = self._snapshots.build(call.text("name"), str(info.get("dockerfileContent")), size)
        return 200, made.as_json()

    async def get_snapshot(self, call: Call) -> tuple[int, object]:
        """Describe a snapshot."""
        return 200, self._snapshots.find(call.parts[0]).as_json()

    async def delete_snapshot(self, call: Call) -> tuple[int, object]:
        """Remove a snapshot."""
        found = self._snapshots.find(call.parts[0])
        if found.general:
            raise Refusal(403, "You cannot delete a general snapshot", "FORBIDDEN")
        del self._snapshots.all[found.name]
        return 200, None

    async def logs_url(self, call: Call) -> tuple[int, object]:
        """Return where the output of a build is found."""
        found = self._snapshots.find(call.parts[0])
        return 200, {"url": f"{self._url}/api/snapshots/{found.id}/build-logs"}

    async def logs(self, call: Call) -> None:
        """Send what a build prints, until it ends."""
        found, position = self._snapshots.find(call.parts[0]), 0
        await call.exchange.start(200, {"content-type": "text/plain"})
        while True:
            changed, state = found.changed, found.state
            lines, position = found.log[position:], len(found.log)
            await call.exchange.write("".join(f"{line}\n" for line in lines if line).encode())
            if state != "building":
                break
            await changed.wait()
        await call.exchange.finish()

    def _check(self, call: Call) -> None:
        for name in ("autoStopInterval", "autoDeleteInterval", "ttlMinutes"):
            call.integer(name, 0)
        asked = [name for name in NETWORK if call.body.get(name)]
        if asked and self._organization.tier < _FREE_TIER:
            message = "Network access is restricted and cannot be overridden at the sandbox level. "
            raise Refusal(400, f"{message}Remove {asked[0]} from the request.", "BAD_REQUEST")
        if str(call.body.get("networkAllowList") or "").count(",") >= _MOST_BLOCKS:
            raise Refusal(400, "Network allow list cannot contain more than 10 networks", "BAD_REQUEST")
        for mounted in cast("list[dict[str, str]]", call.body.get("secrets") or []):
            for name in mounted.values():
                if name not in self._organization.secrets:
                    raise Refusal(400, f"Secret {name} does not exist", "BAD_REQUEST")

    def _box(self, call: Call) -> DaytonaBox:
        wanted = call.parts[0]
        for box in self._boxes.running():
            if wanted in (box.id, box.name):
                return box
        raise Refusal(404, f"Sandbox with ID or name {wanted} not found", "NOT_FOUND")
