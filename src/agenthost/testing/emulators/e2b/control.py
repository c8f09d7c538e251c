"""E2B's control plane: sandboxes and templates by REST."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

from agenthost.testing.emulators.e2b import snapshots
from agenthost.testing.emulators.e2b.boxes import Box, Boxes
from agenthost.testing.emulators.e2b.rates import Rate
from agenthost.testing.emulators.e2b.refusals import Refusal
from agenthost.testing.emulators.e2b.templates import Build, Template, Templates, Usable, stamp
from agenthost.testing.loopback import Exchange

ENVD = "0.6.13"
_DEFAULT_TIMEOUT = 300  # seconds of a sandbox whose client says nothing
_PAGE = 100
_IDEMPOTENCY = re.compile(r"[a-z0-9]{1,255}\Z")
_NAME = re.compile(r"[a-z0-9_-]+(:[a-z0-9_.-]+)?\Z")

Make = Callable[[Mapping[str, Any], Usable], Awaitable[Box]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call is answered with; None is no body."""

    status: int
    told: object = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Control:
    """Answers what the client asks of the control plane.

    Args:
        boxes: The sandboxes.
        templates: The templates.
        make: Makes a sandbox of a body and what its template has.
        key: The one API key.
        longest: Seconds that the plan lets a sandbox live.
        creates: How often sandboxes may be made; None is as often as one likes.
    """

    def __init__(
        self,
        boxes: Boxes,
        templates: Templates,
        make: Make,
        *,
        key: str,
        longest: float,
        creates: Rate | None = None,
    ) -> None:
        self._boxes = boxes
        self._templates = templates
        self._make = make
        self.page = _PAGE
        self._key = key
        self._longest = longest
        self._creates = creates
        self.keys: list[str] = []
        # What was answered, by the key of idempotency; None: it is being made.
        self._answers: dict[str, Answer | Refusal | None] = {}
        self._routes: tuple[tuple[str, re.Pattern[str], Callable[..., Awaitable[Answer]]], ...] = (
            ("POST", re.compile(r"/v2/sandboxes\Z"), self._create),
            ("GET", re.compile(r"/v2/sandboxes\Z"), self._list),
            ("POST", re.compile(r"/v2/sandboxes/([^/]+)/connect\Z"), self._connect),
            ("GET", re.compile(r"/sandboxes/([^/]+)\Z"), self._get),
            ("DELETE", re.compile(r"/sandboxes/([^/]+)\Z"), self._kill),
            ("POST", re.compile(r"/sandboxes/([^/]+)/timeout\Z"), self._timeout),
            ("POST", re.compile(r"/sandboxes/([^/]+)/pause\Z"), self._pause),
            ("POST", re.compile(r"/sandboxes/([^/]+)/snapshots\Z"), self._snapshot),
            ("POST", re.compile(r"/v3/templates\Z"), self._request_build),
            ("POST", re.compile(r"/v2/templates/([^/]+)/builds/([^/]+)\Z"), self._start_build),
            ("GET", re.compile(r"/templates/([^/]+)/builds/([^/]+)/status\Z"), self._build_status),
            ("GET", re.compile(r"/templates/aliases/([^/]+)\Z"), self._alias),
            ("GET", re.compile(r"/templates/([^/]+)/tags\Z"), self._tags),
            ("POST", re.compile(r"/templates/tags\Z"), self._assign_tags),
            ("DELETE", re.compile(r"/templates/([^/]+)\Z"), self._forget_template),
        )

    async def answer(self, exchange: Exchange) -> bool:
        """Answer a request; False: it is none of the control plane's."""
        request = exchange.request
        url = urlsplit(request.target)
        for method, pattern, call in self._routes:
            found = pattern.match(url.path)
            if method != request.method or found is None:
                continue
            try:
                if request.headers.get("x-api-key") != self._key:
                    raise Refusal(401, "Invalid API key")
                body = _parse(request.body)
                query = {name: values[-1] for name, values in parse_qs(url.query).items()}
                parts = [unquote(part) for part in found.groups()]
                answer = await call(*parts, body={**query, **body, "$headers": request.headers})
            except Refusal as refusal:
                told = {"code": refusal.status, "message": str(refusal)}
                answer = Answer(refusal.status, told, refusal.headers)
            data = b"" if answer.told is None else json.dumps(answer.told).encode()
            await exchange.reply(answer.status, data, {"content-type": "application/json", **answer.headers})
            return True
        return False

    # ---- sandboxes

    async def _create(self, *, body: dict[str, Any]) -> Answer:
        again = None if self._creates is None else self._creates.take()
        if again is not None:
            raise Refusal(429, "sandboxes are made too often", {"retry-after": str(again)})
        key = body["$headers"].get("idempotency-key")
        if key is None:
            return await self._create_one(body)
        # Its own server takes no hyphens, though its client does.
        if not _IDEMPOTENCY.match(key):
            raise Refusal(400, "Idempotency-Key must be 1 to 255 lower-case letters and digits")
        self.keys.append(key)
        if key not in self._answers:
            self._answers[key] = None
            try:
                self._answers[key] = await self._create_one(body)
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

    async def _create_one(self, body: dict[str, Any]) -> Answer:
        template_id = _text(body, "templateID")
        seconds = _seconds(body)
        self._check_timeout(seconds)
        _check_texts(body, "metadata", "envVars")
        network = _object(body, "network")
        allowed: list[str] = network.get("allowOut", [])
        named = [host for host in allowed if re.search(r"[a-z]", host)]
        if named and "0.0.0.0/0" not in network.get("denyOut", []):
            raise Refusal(400, "When specifying allowed domains, you must include '0.0.0.0/0' in deny out")
        for name in ("volumeMounts", "mcp", "iam"):
            if body.get(name):
                raise Refusal(501, f"this emulator has no {name}")
        if _object(body, "autoResume").get("enabled"):
            raise Refusal(501, "sandboxes of this emulator do not wake up by themselves")
        found = self._templates.usable(template_id)
        if found is None:
            raise Refusal(404, f"template '{template_id}' not found")
        return Answer(201, _reached(await self._make({**body, "timeout": seconds}, found)))

    async def _list(self, *, body: dict[str, Any]) -> Answer:
        wanted = {unquote(name): unquote(value) for name, value in parse_qsl(body.get("metadata", ""))}
        states = body.get("state", "running,paused").split(",")
        found = [
            box
            for box in self._boxes.all.values()
            if wanted.items() <= box.metadata.items() and box.state in states
        ]
        found.sort(key=lambda box: box.started_at, reverse=body.get("order", "desc") == "desc")
        begin, limit = _count(body, "nextToken", 0), _count(body, "limit", self.page)
        page = found[begin : begin + limit]
        more = {"x-next-token": str(begin + limit)} if len(found) > begin + limit else {}
        return Answer(200, [_listed(box) for box in page], more)

    async def _connect(self, sandbox_id: str, *, body: dict[str, Any]) -> Answer:
        box = self._box(sandbox_id)
        seconds = _seconds(body)
        self._check_timeout(seconds)
        if box.state == "paused":
            await (box.reboot(seconds) if body.get("memory") is False else box.resume(seconds))
            return Answer(201, _reached(box))
        if time.time() + seconds > box.end_at:
            box.set_end(seconds)
        return Answer(200, _reached(box))

    async def _get(self, sandbox_id: str, *, body: dict[str, Any]) -> Answer:
        del body
        box = self._box(sandbox_id)
        lifecycle = {"onTimeout": box.on_timeout, "autoResume": box.auto_resume}
        more = {
            "network": box.network,
            "lifecycle": lifecycle,
            "allowInternetAccess": box.allow_internet_access,
        }
        return Answer(200, {**_listed(box), "envdAccessToken": box.token, "domain": None, **more})

    async def _kill(self, sandbox_id: str, *, body: dict[str, Any]) -> Answer:
        del body
        await self._boxes.end(self._box(sandbox_id))
        return Answer(204)

    async def _timeout(self, sandbox_id: str, *, body: dict[str, Any]) -> Answer:
        box = self._box(sandbox_id)
        if box.state == "paused":
            raise Refusal(404, f"sandbox {sandbox_id} is not running")
        # What is behind the plan's limit is cut without a word.
        seconds = _seconds(body, default=None)
        box.set_end(max(0.0, min(seconds, box.started_at + self._longest - time.time())))
        return Answer(204)

    async def _pause(self, sandbox_id: str, *, body: dict[str, Any]) -> Answer:
        box = self._box(sandbox_id)
        if box.state == "paused":
            raise Refusal(409, f"sandbox {sandbox_id} is paused already")
        del body  # with or without its memory: it is a resume that chooses
        await box.pause()
        return Answer(204)

    async def _snapshot(self, sandbox_id: str, *, body: dict[str, Any]) -> Answer:
        return Answer(201, await snapshots.take(self._box(sandbox_id), self._templates, body))

    def _check_timeout(self, seconds: float) -> None:
        if seconds > self._longest:
            hours = self._longest / 3600
            raise Refusal(400, f"Timeout cannot be greater than {hours:g} hours")
        if seconds < 0:
            raise Refusal(400, "Timeout cannot be negative")

    def _box(self, sandbox_id: str) -> Box:
        box = self._boxes.all.get(sandbox_id)
        if box is None:
            raise Refusal(404, f"sandbox '{sandbox_id}' doesn't exist or you don't have access to it")
        return box

    # ---- templates

    async def _request_build(self, *, body: dict[str, Any]) -> Answer:
        if not _NAME.match(str(body.get("name", ""))):
            raise Refusal(400, f"Invalid template name: {body.get('name')!r}")
        return Answer(202, self._templates.request(body))

    async def _start_build(self, template_id: str, build_id: str, *, body: dict[str, Any]) -> Answer:
        template = self._template(template_id)
        self._templates.start(template, _build(template, build_id), body)
        return Answer(202)

    async def _build_status(self, template_id: str, build_id: str, *, body: dict[str, Any]) -> Answer:
        template = self._template(template_id)
        build = _build(template, build_id)
        return Answer(200, self._templates.status(template, build, _count(body, "logsOffset", 0)))

    async def _alias(self, alias: str, *, body: dict[str, Any]) -> Answer:
        del body
        return Answer(200, {"templateID": self._template(alias).id, "public": False})

    async def _tags(self, name: str, *, body: dict[str, Any]) -> Answer:
        del body
        template = self._template(name)
        at = stamp(template.made_at)
        return Answer(
            200, [{"tag": tag, "buildID": build, "createdAt": at} for tag, build in template.tags.items()]
        )

    async def _assign_tags(self, *, body: dict[str, Any]) -> Answer:
        target, tags = _text(body, "target"), _texts(body, "tags")
        template = self._template(target)
        tag = target.partition(":")[2] or "default"
        if tag not in template.tags:
            raise Refusal(404, f"template {target!r} has no such tag")
        template.tags.update(dict.fromkeys(tags, template.tags[tag]))
        return Answer(201, {"buildID": template.tags[tag], "tags": tags})

    async def _forget_template(self, name: str, *, body: dict[str, Any]) -> Answer:
        del body
        template = self._template(name)
        if any(box.template == template.id for box in self._boxes.all.values()):
            raise Refusal(400, f"cannot delete template '{name}': sandboxes of it are running or paused")
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


def _parse(body: bytes) -> dict[str, Any]:
    try:
        found: object = json.loads(body) if body else {}
    except ValueError as error:
        raise Refusal(400, f"Error parsing request: {error}") from error
    if not isinstance(found, dict):
        raise Refusal(400, "Error parsing request: the body is not an object")
    return cast("dict[str, Any]", found)


def _text(body: Mapping[str, Any], name: str) -> str:
    found = body.get(name)
    if not isinstance(found, str) or not found:
        raise Refusal(400, f"'{name}' is required and must be a string")
    return found


def _texts(body: Mapping[str, Any], name: str) -> list[str]:
    found = body.get(name)
    texts = cast("list[object]", found) if isinstance(found, list) else [None]
    if not all(isinstance(one, str) for one in texts):
        raise Refusal(400, f"'{name}' must be a list of strings")
    return cast("list[str]", texts)


def _object(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = body.get(name)
    if found is not None and not isinstance(found, dict):
        raise Refusal(400, f"'{name}' must be an object")
    return cast("dict[str, Any]", found or {})


def _check_texts(body: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if not all(isinstance(value, str) for value in _object(body, name).values()):
            raise Refusal(400, f"the values of '{name}' must be strings")


def _seconds(body: Mapping[str, Any], default: int | None = _DEFAULT_TIMEOUT) -> int:
    found = body.get("timeout", default)
    if type(found) is not int:  # null and true are not numbers
        raise Refusal(400, "'timeout' must be an integer")
    return found


def _count(query: Mapping[str, Any], name: str, default: int) -> int:
    found = str(query.get(name, default))
    if not (found.isascii() and found.isdigit()):
        raise Refusal(400, f"Invalid format for parameter {name}")
    return int(found)


def _reached(box: Box) -> dict[str, Any]:
    told = {"templateID": box.template, "sandboxID": box.id, "clientID": "emulated", "envdVersion": ENVD}
    traffic = None if box.is_public else box.traffic_token
    return {**told, "envdAccessToken": box.token, "trafficAccessToken": traffic, "domain": None}


def _listed(box: Box) -> dict[str, Any]:
    told = {"templateID": box.template, "alias": box.alias, "sandboxID": box.id, "clientID": "emulated"}
    times = {"startedAt": stamp(box.started_at), "endAt": stamp(box.end_at)}
    sizes = {"cpuCount": box.cpu, "memoryMB": box.memory_mib, "diskSizeMB": 10240, "envdVersion": ENVD}
    return {**told, **times, **sizes, "state": box.state, "metadata": box.metadata, "volumeMounts": []}


def new_id() -> str:
    """Return an id as E2B's are."""
    return "i" + secrets.token_hex(10)
