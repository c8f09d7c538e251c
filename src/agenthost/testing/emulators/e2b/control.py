"""E2B's control plane: sandboxes and templates by REST."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from agenthost.testing.emulators.base.boxes import Boxes, page
from agenthost.testing.emulators.base.clock import Clock
from agenthost.testing.emulators.base.faults import Faults
from agenthost.testing.emulators.base.rest import Answer, Asked, Refusal, RestApi
from agenthost.testing.emulators.e2b import snapshots
from agenthost.testing.emulators.e2b.about import REFUSED
from agenthost.testing.emulators.e2b.boxes import E2BBox
from agenthost.testing.emulators.e2b.network import check_network
from agenthost.testing.emulators.e2b.templates import Build, Template, Templates, Usable, stamp
from agenthost.testing.loopback import HttpRequest

ENVD = "0.6.13"
_DEFAULT_TIMEOUT = 300  # seconds of a sandbox whose client says nothing
_PAGE = 100
_IDEMPOTENCY = re.compile(r"[a-z0-9]{1,255}\Z")
_NAME = re.compile(r"[a-z0-9_-]+(:[a-z0-9_.-]+)?\Z")

_FILTERS = {"metadata", "state", "limit", "nextToken", "order", "template", "startedAfter"}

ROUTES = {
    "POST /v2/sandboxes": "create",
    "GET /v2/sandboxes": "list",
    "POST /v2/sandboxes/{id}/connect": "connect",
    "GET /sandboxes/{id}": "get",
    "DELETE /sandboxes/{id}": "kill",
    "POST /sandboxes/{id}/timeout": "timeout",
    "POST /sandboxes/{id}/pause": "pause",
    "POST /sandboxes/{id}/snapshots": "snapshot",
    "POST /v3/templates": "request_build",
    "POST /v2/templates/{id}/builds/{build}": "start_build",
    "GET /templates/{id}/builds/{build}/status": "build_status",
    "GET /templates/aliases/{alias}": "alias",
    "GET /templates/{id}/tags": "tags",
    "POST /templates/tags": "assign_tags",
    "DELETE /templates/{id}": "forget_template",
}

Make = Callable[[Mapping[str, Any], Usable], Awaitable[E2BBox]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What an account may do.

    Attributes:
        longest: Seconds that a sandbox may live.
        most_running: How many sandboxes may run at once.
        header_rules: Whether headers may be added to requests of sandboxes.
    """

    longest: float
    most_running: int
    header_rules: bool


class Control:
    """Answers what the client asks of the control plane.

    Args:
        boxes: The sandboxes.
        clock: The emulator's time.
        faults: What is to go wrong.
        templates: The templates.
        make: Makes a sandbox of a body and what its template has.
        end: Ends one.
        key: The one API key.
        plan: What the account may do.
    """

    def __init__(
        self,
        boxes: Boxes[E2BBox],
        clock: Clock,
        faults: Faults,
        templates: Templates,
        make: Make,
        end: Callable[[E2BBox], Awaitable[None]],
        *,
        key: str,
        plan: Plan,
    ) -> None:
        self._boxes = boxes
        self._clock = clock
        self._faults = faults
        self._templates = templates
        self._make = make
        self._end = end
        self.page = _PAGE
        self._key = key
        self._plan = plan
        self.keys: list[str] = []
        # What was answered, by the key of idempotency; None: it is being made.
        self._answers: dict[str, Answer | Refusal | None] = {}
        routes = {route: getattr(self, f"_{name}") for route, name in ROUTES.items()}
        self.api = RestApi(routes, self._check_key)

    def _check_key(self, request: HttpRequest) -> None:
        if self._faults.revoked or request.headers.get("x-api-key") != self._key:
            raise Refusal(401, "Invalid API key")

    # ---- sandboxes

    async def _create(self, asked: Asked) -> Answer:
        key = asked.headers.get("idempotency-key")
        if key is None:
            return await self._create_one(asked)
        # Its own server takes no hyphens, though its client does.
        if not _IDEMPOTENCY.match(key):
            raise Refusal(400, "Idempotency-Key must be 1 to 255 lower-case letters and digits")
        self.keys.append(key)
        if key not in self._answers:
            self._answers[key] = None
            try:
                self._answers[key] = await self._create_one(asked)
            except Refusal as refusal:
                self._answers[key] = refusal
            finally:
                if self._answers[key] is None:  # it broke: nobody knows what it has done
                    self._answers[key] = Refusal(409, "what became of the call with this key is not known")
        answer = self._answers[key]
        if answer is None:
            raise Refusal(409, "a call with this Idempotency-Key is being done")
        if isinstance(answer, Refusal):
            raise Refusal(answer.status, str(answer))
        return answer

    async def _create_one(self, asked: Asked) -> Answer:
        template_id = asked.text("templateID")
        seconds = asked.integer("timeout", _DEFAULT_TIMEOUT)
        self._check_timeout(seconds)
        for name in ("metadata", "envVars"):
            asked.text_mapping(name)
        check_network(asked.mapping("network"), header_rules=self._plan.header_rules)
        for name in ("volumeMounts", "mcp", "iam"):
            if asked.fields.get(name):
                raise Refusal(501, REFUSED[name])
        if asked.mapping("autoResume").get("enabled"):
            raise Refusal(501, REFUSED["wake"])
        found = self._templates.usable(template_id)
        if found is None:
            raise Refusal(404, f"template '{template_id}' not found")
        self._check_running()
        return Answer(201, _reached(await self._make({**asked.fields, "timeout": seconds}, found)))

    async def _list(self, asked: Asked) -> Answer:
        wanted = {
            unquote(name): unquote(value) for name, value in parse_qsl(asked.fields.get("metadata", ""))
        }
        if unknown := set(asked.fields) - _FILTERS:
            raise Refusal(501, f"this emulator does not know the filter {unknown.pop()}")
        template, after = asked.fields.get("template"), _time(asked.fields.get("startedAfter"))
        states = asked.fields.get("state", "running,paused").split(",")
        found = [
            box
            for box in self._boxes.listed()
            if wanted.items() <= box.metadata.items()
            and box.state in states
            and template in (None, box.template, box.alias)
            and box.started_at > after
        ]
        found.sort(key=lambda box: box.started_at, reverse=asked.fields.get("order", "desc") == "desc")
        asked.count("nextToken", 0)
        some, following = page(found, asked.fields.get("nextToken"), asked.count("limit", self.page))
        return Answer(200, [_listed(box) for box in some], {"x-next-token": following} if following else {})

    async def _connect(self, asked: Asked) -> Answer:
        box = self._box(asked)
        seconds = asked.integer("timeout", _DEFAULT_TIMEOUT)
        self._check_timeout(seconds)
        if box.state == "paused":
            self._check_running()
            await (box.reboot(seconds) if asked.fields.get("memory") is False else box.resume(seconds))
            return Answer(201, _reached(box))
        if self._clock.now() + seconds > box.end_at:
            box.set_end(seconds)
        return Answer(200, _reached(box))

    async def _get(self, asked: Asked) -> Answer:
        box = self._box(asked)
        lifecycle = {"onTimeout": box.on_timeout, "autoResume": box.auto_resume}
        more = {
            "network": box.network,
            "lifecycle": lifecycle,
            "allowInternetAccess": box.allow_internet_access,
        }
        return Answer(200, {**_listed(box), "envdAccessToken": box.token, "domain": None, **more})

    async def _kill(self, asked: Asked) -> Answer:
        await self._end(self._box(asked))
        return Answer(204)

    async def _timeout(self, asked: Asked) -> Answer:
        box = self._box(asked)
        if box.state == "paused":
            raise Refusal(404, f"sandbox {box.id} is not running")
        if box.state != "running":
            raise Refusal(409, f"sandbox {box.id} is changing its state: {box.state}")
        # What is behind the plan's limit is cut without a word.
        seconds = asked.integer("timeout")
        box.set_end(max(0.0, min(seconds, box.started_at + self._plan.longest - self._clock.now())))
        return Answer(204)

    async def _pause(self, asked: Asked) -> Answer:
        box = self._box(asked)
        if box.state == "paused":
            raise Refusal(409, f"sandbox {box.id} is paused already")
        await box.pause(keeps_memory=asked.fields.get("memory") is not False)
        return Answer(204)

    async def _snapshot(self, asked: Asked) -> Answer:
        return Answer(201, await snapshots.take(self._box(asked), self._templates, self._faults, asked))

    def _check_timeout(self, seconds: float) -> None:
        if seconds > self._plan.longest:
            raise Refusal(400, f"Timeout cannot be greater than {self._plan.longest / 3600:g} hours")
        if seconds < 1:
            raise Refusal(400, "Timeout must be greater than 0")

    def _check_running(self) -> None:
        most = self._plan.most_running
        if sum(box.state != "paused" for box in self._boxes.running()) >= most:
            raise Refusal(429, f"you have reached the maximum number of concurrent E2B sandboxes ({most})")

    def _box(self, asked: Asked) -> E2BBox:
        sandbox_id = asked.parts[0]
        box = self._boxes.all.get(sandbox_id)
        if box is None:
            raise Refusal(404, f"sandbox '{sandbox_id}' doesn't exist or you don't have access to it")
        return box

    # ---- templates

    async def _request_build(self, asked: Asked) -> Answer:
        if not _NAME.match(str(asked.fields.get("name", ""))):
            raise Refusal(400, f"Invalid template name: {asked.fields.get('name')!r}")
        return Answer(202, self._templates.request(asked.fields))

    async def _start_build(self, asked: Asked) -> Answer:
        template = self._template(asked.parts[0])
        self._templates.start(template, _build(template, asked.parts[1]), asked.fields)
        return Answer(202)

    async def _build_status(self, asked: Asked) -> Answer:
        template = self._template(asked.parts[0])
        build = _build(template, asked.parts[1])
        return Answer(200, self._templates.status(template, build, asked.count("logsOffset", 0)))

    async def _alias(self, asked: Asked) -> Answer:
        return Answer(200, {"templateID": self._template(asked.parts[0]).id, "public": False})

    async def _tags(self, asked: Asked) -> Answer:
        template = self._template(asked.parts[0])
        at = stamp(template.made_at)
        return Answer(
            200, [{"tag": tag, "buildID": build, "createdAt": at} for tag, build in template.tags.items()]
        )

    async def _assign_tags(self, asked: Asked) -> Answer:
        target, tags = asked.text("target"), asked.texts("tags")
        template = self._template(target)
        tag = target.partition(":")[2] or "default"
        if tag not in template.tags:
            raise Refusal(404, f"template {target!r} has no such tag")
        template.tags.update(dict.fromkeys(tags, template.tags[tag]))
        return Answer(201, {"buildID": template.tags[tag], "tags": tags})

    async def _forget_template(self, asked: Asked) -> Answer:
        template = self._template(asked.parts[0])
        if any(box.template == template.id for box in self._boxes.all.values()):
            raise Refusal(400, f"cannot delete template '{template.name}': sandboxes of it are there")
        template.builds.clear()
        self._templates.all.pop(template.name, None)
        return Answer(204)

    def _template(self, name: str) -> Template:
        found = self._templates.find(name)
        if found is None:
            raise Refusal(404, f"template '{name}' not found")
        return found


def _build(template: Template, build_id: str) -> Build:
    found = template.builds.get(build_id)
    if found is None:
        raise Refusal(404, f"build '{build_id}' not found")
    return found


def _time(text: str | None) -> float:
    if text is None:
        return -math.inf
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise Refusal(400, f"Invalid format for parameter startedAfter: {error}") from error


def _reached(box: E2BBox) -> dict[str, Any]:
    told = {"templateID": box.template, "sandboxID": box.id, "clientID": "emulated", "envdVersion": ENVD}
    traffic = None if box.is_public else box.traffic_token
    return {**told, "envdAccessToken": box.token, "trafficAccessToken": traffic, "domain": None}


def _listed(box: E2BBox) -> dict[str, Any]:
    told = {"templateID": box.template, "alias": box.alias, "sandboxID": box.id, "clientID": "emulated"}
    times = {"startedAt": stamp(box.started_at), "endAt": stamp(box.end_at)}
    sizes = {"cpuCount": box.cpu, "memoryMB": box.memory_mib, "diskSizeMB": 10240, "envdVersion": ENVD}
    state = "paused" if box.state == "paused" else "running"
    return {**told, **times, **sizes, "state": state, "metadata": box.metadata, "volumeMounts": []}


def new_id() -> str:
    """Return an id as E2B's are."""
    return "i" + secrets.token_hex(10)
