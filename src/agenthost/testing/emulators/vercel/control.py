"""Calls about sandboxes, sessions and snapshots."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from agenthost.errors import AgentHostError
from agenthost.testing.emulators.base.archive import pack
from agenthost.testing.emulators.base.boxes import Boxes, page
from agenthost.testing.emulators.base.clock import Clock
from agenthost.testing.emulators.vercel.about import REFUSED
from agenthost.testing.emulators.vercel.api import Call, Refusal, invalid
from agenthost.testing.emulators.vercel.boxes import HOME, PROJECT, WORKDIR, VercelBox, new_id
from agenthost.testing.emulators.vercel.snapshots import Snapshot, Snapshots

ROUTES = {
    "POST /v3/sandboxes": "create",
    "GET /v2/sandboxes": "list_sandboxes",
    "GET /v2/sandboxes/snapshots": "list_snapshots",
    "GET /v2/sandboxes/snapshots/{id}": "get_snapshot",
    "DELETE /v2/sandboxes/snapshots/{id}": "delete_snapshot",
    "GET /v2/sandboxes/sessions/{sid}": "get_session",
    "POST /v2/sandboxes/sessions/{sid}/stop": "stop",
    "POST /v2/sandboxes/sessions/{sid}/extend-timeout": "extend",
    "POST /v2/sandboxes/sessions/{sid}/snapshot": "snapshot",
    "GET /v2/sandboxes/{name}": "get",
    "DELETE /v2/sandboxes/{name}": "delete",
}
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}\Z")
_MOST_TAGS, _LONGEST_TAG, _MOST_PORTS = 5, 256, 15
_FIRST_PORT, _LAST_PORT = 1024, 65535
_LIMIT, _MOST_LIMIT = 20, 50
_DAY = 86_400_000  # milliseconds
_WEEK = 7 * _DAY
# What a create may say, and this emulator does or ignores without harm.
_KNOWN = {
    *("projectId", "name", "image", "source", "timeout", "resources", "persistent", "networkPolicy", "env"),
    *("tags", "snapshotExpiration", "region", "failoverRegions", "ports"),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What an account may do.

    Attributes:
        longest: Seconds that a session may live.
        most_running: How many sessions may run at once.
        most_cores: How many cores a sandbox may have.
        header_rules: Whether headers may be added to requests of sandboxes.
    """

    longest: float
    most_running: int
    most_cores: int
    header_rules: bool


Make = Callable[[Mapping[str, Any], Snapshot | None], Awaitable[VercelBox]]


class Control:
    """Answers these calls.

    Args:
        boxes: The sessions.
        clock: The emulator's time.
        snapshots: The snapshots.
        make: Makes a session of a body and of a snapshot.
        end: Ends one.
        plan: What the account may do.
    """

    def __init__(
        self,
        boxes: Boxes[VercelBox],
        clock: Clock,
        snapshots: Snapshots,
        make: Make,
        end: Callable[[VercelBox], Awaitable[None]],
        *,
        plan: Plan,
    ) -> None:
        self._boxes = boxes
        self._clock = clock
        self._snapshots = snapshots
        self._make = make
        self._end = end
        self._plan = plan
        self.page = _MOST_LIMIT  # how many a list has at once, at most; a test can set it

    def session(self, call: Call) -> VercelBox:
        """Return a session that takes commands. Raises Refusal."""
        box = self._session(call)
        if box.state == "pending":
            raise Refusal(422, "sandbox_pending", "The sandbox is not running yet.")
        if box.state == "snapshotting":
            raise Refusal(422, "sandbox_snapshotting", "The Sandbox is creating a snapshot.")
        if not box.is_running:
            message = "Sandbox has stopped execution and is no longer available"
            raise Refusal(410, "sandbox_stopped", message)
        return box

    async def create(self, call: Call) -> dict[str, Any]:
        """Make a sandbox with a session."""
        body = call.body
        if body.get("projectId") != PROJECT:
            raise Refusal(404, "not_found", "Project not found.")
        if unknown := sorted(name for name in body if name not in _KNOWN):
            raise Refusal(501, "not_implemented", f"{REFUSED['field']} {unknown[0]}")
        self._check(call)
        name = body.get("name") or new_id("sandbox-")
        if not isinstance(name, str) or not _NAME.match(name):
            raise invalid('`name` should match pattern "^[a-zA-Z0-9_-]+$".')
        if self._named(name) is not None:
            message = f"Named sandbox '{name}' already exists. Use GET /sandboxes/:name to resume it."
            raise Refusal(400, "bad_request", message)
        if len(self._boxes.running()) >= self._plan.most_running:
            message = "The concurrency limit has been exceeded."
            raise Refusal(429, "rate_limited", message, headers={"retry-after": "60"})
        source = cast("dict[str, Any]", body.get("source") or {})
        snapshot = self._snapshots.usable(str(source.get("snapshotId"))) if source else None
        return (await self._make({**body, "name": name}, snapshot)).whole_json()

    async def list_sandboxes(self, call: Call) -> dict[str, Any]:
        """List sandboxes, by one tag or the beginning of a name."""
        if call.parameter("project") != PROJECT:
            raise Refusal(404, "not_found", "Project not found.")
        by, prefix, tags = (
            call.parameter("sortBy", "createdAt"),
            call.parameter("namePrefix"),
            call.query.get("tags", []),
        )
        if prefix and by != "name":
            raise invalid("`namePrefix` is only valid when `sortBy` is `name`")
        if len(tags) > 1:
            raise Refusal(400, "bad_request", "Only one tag filter is supported at a time")
        limit = int(call.parameter("limit", str(_LIMIT)))
        if not 1 <= limit <= _MOST_LIMIT:
            raise invalid(f"`limit` should be <= {_MOST_LIMIT}.")
        latest = {box.name: box for box in self._boxes.all.values() if not box.removed}
        found = [box for box in latest.values() if box.name.startswith(prefix) and _has(box, tags)]
        found.sort(key=lambda box: box.name if by == "name" else f"{box.started_at:020.6f}")
        if call.parameter("sortOrder", "desc") == "desc":
            found.reverse()
        some, following = page(found, call.parameter("cursor") or None, min(limit, self.page))
        told = [box.sandbox_json() for box in some]
        return {"sandboxes": told, "pagination": {"count": len(told), "next": following}}

    async def get(self, call: Call) -> dict[str, Any]:
        """Describe a sandbox; with ``resume`` start another session where none runs."""
        box = self._sandbox(call)
        if box.state == "pending":
            box.state = "running"
        if call.parameter("resume") != "true" or box.is_running:
            return box.whole_json()
        if box.snapshot is None:
            raise Refusal(400, "snapshot_not_found", "Cannot resume sandbox: no snapshot available.")
        made = await self._make(box.body, self._snapshots.usable(box.snapshot))
        made.snapshot, made.state, box.removed = box.snapshot, "running", True
        return made.whole_json(resumed=True)

    async def delete(self, call: Call) -> dict[str, Any]:
        """Remove a sandbox, with ``deleteOrphanSnapshots`` its snapshots, too."""
        box = self._sandbox(call)
        await self._end(box)
        box.removed = True
        if call.parameter("deleteOrphanSnapshots") == "true":
            for one in self._snapshots.of(box.name):
                one.status = "deleted"
        return {"sandbox": box.sandbox_json()}

    async def get_session(self, call: Call) -> dict[str, Any]:
        """Describe a session."""
        box = self._session(call)
        return {"session": box.session_json(), "routes": box.routes_json()}

    async def stop(self, call: Call) -> dict[str, Any]:
        """Stop a session; a persistent one is kept as a snapshot."""
        box = self._session(call)
        if box.is_running:
            if box.body.get("persistent", True):
                await self._keep(box, _WEEK)
            await self._end(box)
        return {"session": box.session_json(), "sandbox": box.sandbox_json()}

    async def extend(self, call: Call) -> dict[str, Any]:
        """Add to a session's time."""
        box = self.session(call)
        end = box.end_at + call.integer("duration", 0, 1000) / 1000
        if end - box.started_at > self._plan.longest:
            raise invalid(f"`timeout` should be <= {round(self._plan.longest * 1000)}.")
        box.move_end(end)
        return {"session": box.session_json()}

    async def snapshot(self, call: Call) -> tuple[int, dict[str, Any]]:
        """Keep a session's files, and stop it."""
        box = self.session(call)
        expiration = call.integer("expiration", _WEEK, 0)
        if 0 < expiration < _DAY:
            raise invalid("`expiration` must be 0 (no expiration) or >= 86400000 ms (1 day).")
        try:
            kept = await self._keep(box, expiration)
        except AgentHostError:
            raise Refusal(410, "sandbox_stopped", "Sandbox has stopped execution") from None
        told = {"snapshot": kept.as_json(), "session": box.session_json()}
        await self._end(box)
        return 201, told

    async def list_snapshots(self, call: Call) -> dict[str, Any]:
        """List snapshots, of one sandbox or of all."""
        if call.parameter("project") != PROJECT:
            raise Refusal(404, "not_found", "Project not found.")
        told = [one.as_json() for one in self._snapshots.of(call.parameter("name"))]
        return {"snapshots": told, "pagination": {"count": len(told), "next": None}}

    async def get_snapshot(self, call: Call) -> dict[str, Any]:
        """Describe a snapshot."""
        return {"snapshot": self._snapshots.usable(call.parts[0]).as_json()}

    async def delete_snapshot(self, call: Call) -> dict[str, Any]:
        """Remove a snapshot."""
        found = self._snapshots.usable(call.parts[0])
        found.status = "deleted"
        return {"snapshot": found.as_json()}

    async def _keep(self, box: VercelBox, expiration: int) -> Snapshot:
        box.state = "snapshotting"
        try:
            files = await pack(box.machine, (HOME, WORKDIR))
        except BaseException:
            box.state = "running"
            raise
        now, site = self._clock.now(), box.site if box.build is None else box.build.site
        end = None if expiration == 0 else now + expiration / 1000
        made = Snapshot(new_id("snap_"), box.name, box.session, now, end, files, site)
        self._snapshots.all[made.id] = made
        box.snapshot = made.id
        return made

    def _check(self, call: Call) -> None:
        call.integer("timeout", 300_000, 1000, round(self._plan.longest * 1000))
        cores = cast("dict[str, Any]", call.body.get("resources") or {}).get("vcpus", 2)
        if type(cores) is not int or cores < 1 or (cores > 1 and cores % 2) or cores > self._plan.most_cores:
            raise invalid(f"`resources.vcpus` must be 1 or an even number <= {self._plan.most_cores}.")
        tags = cast("dict[str, Any]", call.body.get("tags") or {})
        if len(tags) > _MOST_TAGS:
            raise invalid(f"`tags` should NOT have more than {_MOST_TAGS} properties.")
        for value in tags.values():
            if not isinstance(value, str) or len(value) > _LONGEST_TAG:
                raise invalid(f"`tags` should NOT be longer than {_LONGEST_TAG} characters.")
        ports = cast("list[Any]", call.body.get("ports") or [])
        if len(ports) > _MOST_PORTS:
            raise invalid(f"`ports` should NOT have more than {_MOST_PORTS} items.")
        if not all(type(port) is int and _FIRST_PORT <= port <= _LAST_PORT for port in ports):
            raise invalid(f"`ports` should be >= {_FIRST_PORT} and <= {_LAST_PORT}.")
        source = cast("dict[str, Any]", call.body.get("source") or {})
        if source and source.get("type") != "snapshot":
            raise Refusal(501, "not_implemented", REFUSED["source"])
        policy = cast("dict[str, Any]", call.body.get("networkPolicy") or {})
        allow = policy.get("allow")
        rules: list[Any] = list(cast("dict[str, Any]", allow).values()) if isinstance(allow, dict) else []
        if any(rules) and not self._plan.header_rules:
            raise Refusal(403, "forbidden", "Header transforms are not available on your plan.")

    def _named(self, name: str) -> VercelBox | None:
        found = [box for box in self._boxes.all.values() if box.name == name and not box.removed]
        return found[-1] if found else None

    def _sandbox(self, call: Call) -> VercelBox:
        box = self._named(call.parts[0]) if call.parameter("projectId") == PROJECT else None
        if box is None:
            raise Refusal(404, "not_found", f"Named sandbox '{call.parts[0]}' not found for this project.")
        return box

    def _session(self, call: Call) -> VercelBox:
        found = next((box for box in self._boxes.all.values() if box.session == call.parts[0]), None)
        if found is None:
            raise Refusal(404, "not_found", "Session not found.")
        return found


def _has(box: VercelBox, tags: list[str]) -> bool:
    own = cast("dict[str, str]", box.body.get("tags") or {})
    return all(own.get(tag.partition(":")[0]) == tag.partition(":")[2] for tag in tags)
