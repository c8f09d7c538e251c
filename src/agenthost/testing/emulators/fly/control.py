"""Fly's Machines API: apps, their addresses, and machines."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from agenthost.errors import AgentHostError, ExecTimeoutError
from agenthost.testing.emulators.base.boxes import Boxes
from agenthost.testing.emulators.base.faults import Faults
from agenthost.testing.emulators.base.rates import Rate
from agenthost.testing.emulators.base.rest import Answer, Asked, Refusal, RestApi
from agenthost.testing.emulators.fly.about import REFUSED
from agenthost.testing.emulators.fly.boxes import FlyBox
from agenthost.testing.emulators.fly.config import COATS, check_config, command_of
from agenthost.testing.loopback import HttpRequest

ROUTES = {
    "GET /v1/apps": "list_apps",
    "POST /v1/apps": "create_app",
    "GET /v1/apps/{app}": "get_app",
    "DELETE /v1/apps/{app}": "delete_app",
    "GET /v1/apps/{app}/ip_assignments": "list_addresses",
    "POST /v1/apps/{app}/ip_assignments": "assign_address",
    "GET /v1/apps/{app}/machines": "list",
    "POST /v1/apps/{app}/machines": "create",
    "GET /v1/apps/{app}/machines/{id}": "get",
    "DELETE /v1/apps/{app}/machines/{id}": "delete",
    "GET /v1/apps/{app}/machines/{id}/wait": "wait",
    "POST /v1/apps/{app}/machines/{id}/exec": "exec",
    "POST /v1/apps/{app}/machines/{id}/start": "start",
    "POST /v1/apps/{app}/machines/{id}/suspend": "suspend",
}
_USUAL, _OF_MACHINE = (3, 1.0), (10, 5.0)  # at once, each second
_LONGEST_WAIT, _LONGEST_EXEC = 60, 30.0  # seconds
_LARGEST_SUSPENDED = 4096  # MiB
_STATES = ("started", "stopped", "suspended", "destroyed")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
_MACHINE = re.compile(r"(GET|POST|DELETE) /v1/apps(?:/([^/]+)(?:/machines/([^/]+))?)?(.*)\Z")


@dataclass(slots=True)
class App:
    """One app.

    Attributes:
        addresses: By their types.
    """

    name: str
    organization: str
    network: str
    addresses: dict[str, str] = field(default_factory=dict[str, str])


class _Api(RestApi):
    def refusal_body(self, status: int, message: str) -> object:
        """Return an error as Fly words it."""
        return refusal_body(status, message)


def refusal_body(status: int, message: str) -> object:
    """Return an error as Fly words it; the code of its own follows a ``|`` in the message."""
    del status
    text, _, code = message.partition("|")
    return {"error": text, "status": code or "unknown"}


class Control:
    """Answers what a client asks of the Machines API.

    Args:
        boxes: The machines.
        faults: What is to go wrong.
        turns: Makes, starts, suspends and ends machines.
        token: The one token.
        foreign: Names of apps that another organisation has.
        full: By region without room, which of ``COATS`` it answers.
        is_limited: Whether calls may come too often.
    """

    def __init__(
        self,
        boxes: Boxes[FlyBox],
        faults: Faults,
        turns: Turns,
        *,
        token: str,
        foreign: Collection[str],
        full: Mapping[str, str],
        is_limited: bool,
    ) -> None:
        self.apps: dict[str, App] = {}
        self.full = dict(full)
        self._boxes = boxes
        self._faults = faults
        self._turns = turns
        self._token = token
        self._foreign = foreign
        self._is_limited = is_limited
        self._rates: dict[tuple[str, ...], Rate] = {}
        self.api = _Api({route: getattr(self, f"_{name}") for route, name in ROUTES.items()}, self._check)

    def _check(self, request: HttpRequest) -> None:
        # A macaroon has a scheme of its own.
        scheme = "" if self._token.startswith("FlyV1 ") else "Bearer "
        if self._faults.revoked or request.headers.get("authorization") != f"{scheme}{self._token}":
            raise Refusal(401, "unauthorized: invalid token")
        if self._is_limited and (
            found := _MACHINE.match(f"{request.method} {request.target.partition('?')[0]}")
        ):
            method, app, machine, rest = found.groups("")
            at_once, each_second = (
                _OF_MACHINE if (method, bool(machine), rest) == ("GET", True, "") else _USUAL
            )
            rate = self._rates.setdefault((method, app, machine, rest), Rate(at_once, each_second))
            if rate.take() is not None:
                raise Refusal(429, "rate limit exceeded")

    # ---- apps

    async def _list_apps(self, asked: Asked) -> Answer:
        organization = asked.text("org_slug")
        apps = [app for app in self.apps.values() if app.organization == organization]
        described = [
            {
                "id": app.name,
                "name": app.name,
                "machine_count": len(self._machines(app.name)),
                "network": app.network,
            }
            for app in apps
        ]
        return Answer(200, {"total_apps": len(described), "apps": described})

    async def _create_app(self, asked: Asked) -> Answer:
        name = asked.text("app_name")
        if not _NAME.match(name):
            raise Refusal(
                422, "Validation failed: Name may only contain numbers, lowercase letters and dashes"
            )
        if name in self._foreign or name in self.apps:
            raise Refusal(422, "Validation failed: Name has already been taken|name_taken")
        self.apps[name] = App(name, asked.text("org_slug"), asked.text("network", "default"))
        return Answer(201, {"id": name, "created_at": 0})

    async def _get_app(self, asked: Asked) -> Answer:
        app = self._app(asked)
        organization = {"name": app.organization, "slug": app.organization}
        described = {"id": app.name, "name": app.name, "organization": organization, "status": "deployed"}
        return Answer(200, described)

    async def _delete_app(self, asked: Asked) -> Answer:
        app = self._app(asked)
        for box in self._machines(app.name):
            await self._turns.end(box)
        del self.apps[app.name]
        return Answer(202)

    async def _list_addresses(self, asked: Asked) -> Answer:
        found = self._app(asked).addresses
        described = [
            {"ip": ip, "region": "global", "shared": kind == "shared_v4"} for kind, ip in found.items()
        ]
        return Answer(200, {"ips": described})

    async def _assign_address(self, asked: Asked) -> Answer:
        app, kind = self._app(asked), asked.text("type")
        known = {"shared_v4": "203.0.113.7", "v6": "2001:db8::7"}
        if kind not in known:
            raise Refusal(501, REFUSED["addresses"])
        app.addresses[kind] = known[kind]
        return Answer(200, {"ip": known[kind], "region": "global", "shared": kind == "shared_v4"})

    def _app(self, asked: Asked) -> App:
        name = asked.parts[0]
        if name in self._foreign:
            raise Refusal(403, "not authorized to access this app")
        if name not in self.apps:
            raise Refusal(404, f"app not found: {name}")
        return self.apps[name]

    # ---- machines

    def _machines(self, app: str) -> list[FlyBox]:
        return [box for box in self._boxes.listed() if box.app == app]

    def _box(self, asked: Asked) -> FlyBox:
        app = self._app(asked)
        box = self._boxes.all.get(asked.parts[1])
        if box is None or box.app != app.name:
            raise Refusal(404, "machine not found")
        return box

    async def _list(self, asked: Asked) -> Answer:
        found = self._machines(self._app(asked).name)
        for name, value in asked.fields.items():
            if not name.startswith("metadata."):
                raise Refusal(501, f"{REFUSED['filter']}: {name}")
            key = name.removeprefix("metadata.")
            found = [box for box in found if box.metadata.get(key) == value]
        return Answer(200, [box.described() for box in found])  # in the order in which they were made

    async def _create(self, asked: Asked) -> Answer:
        app = self._app(asked)
        config = asked.mapping("config")
        check_config(config)
        command_of(config)
        name, region = asked.text("name", "unnamed"), asked.text("region", "iad")
        if region in self.full:
            status, message, code = COATS[self.full[region]]
            raise Refusal(status, f"{message}|{code}")
        for box in self._machines(app.name):
            if box.name == name:
                raise Refusal(
                    409,
                    f"already_exists: unique machine name violation, machine ID {box.id} already exists with "
                    f'name "{name}"',
                )
        box = self._turns.make(app.name, name, region, config)
        return Answer(200, box.described())

    async def _get(self, asked: Asked) -> Answer:
        return Answer(200, self._box(asked).described())

    async def _delete(self, asked: Asked) -> Answer:
        box = self._box(asked)
        if asked.fields.get("force") != "true":
            box.require("stopped", "suspended", "created")
        await self._turns.end(box)
        return Answer(200, {"ok": True})

    async def _wait(self, asked: Asked) -> Answer:
        box, state, seconds = self._box(asked), asked.text("state", "started"), asked.count("timeout", 60)
        if state not in _STATES:
            raise Refusal(400, f"invalid state {state!r}")
        if not 1 <= seconds <= _LONGEST_WAIT:
            raise Refusal(400, "invalid timeout: it must be between 1 and 60")
        if state == "stopped" and "instance_id" not in asked.fields:
            raise Refusal(400, "instance_id is required to wait for stopped")
        with anyio.move_on_after(seconds):
            while box.state != state:
                await box.changed.wait()
            return Answer(200, {"ok": True})
        raise Refusal(408, f"deadline_exceeded: machine failed to reach desired state, {state}")

    async def _exec(self, asked: Asked) -> Answer:
        box = self._box(asked)
        box.require("started")
        assert box.machine is not None
        for name in ("container", "machine"):
            if name in asked.fields:
                raise Refusal(501, REFUSED["container"])
        command, stdin = asked.texts("command"), asked.fields.get("stdin") or ""
        limit = min(float(asked.integer("timeout", int(_LONGEST_EXEC))), _LONGEST_EXEC)
        try:
            done = await box.machine.sandbox.exec(command, stdin=str(stdin).encode(), cwd="/", timeout=limit)
        except ExecTimeoutError as error:
            raise Refusal(408, "deadline_exceeded: command did not end in time") from error
        except OSError as error:
            raise Refusal(400, f"unknown: the command cannot be started: {error.strerror}") from error
        except AgentHostError as error:
            raise Refusal(412, "failed_precondition: machine was destroyed while the command ran") from error
        described = {
            "exit_code": done.exit_code,
            "stdout": done.stdout.decode(errors="replace"),
            "stderr": done.stderr.decode(errors="replace"),
        }
        return Answer(200, {name: value for name, value in described.items() if value})

    async def _start(self, asked: Asked) -> Answer:
        box = self._box(asked)
        previous = box.state
        if previous != "started":
            box.require("suspended", "stopped", "created")
            await self._turns.start(box)
        return Answer(200, {"previous_state": previous})

    async def _suspend(self, asked: Asked) -> Answer:
        box = self._box(asked)
        if box.state != "suspended":
            box.require("started")
            if box.config["guest"].get("memory_mb", 256) > _LARGEST_SUSPENDED:
                raise Refusal(412, "failed_precondition: machine has too much memory to be suspended")
            await self._turns.suspend(box)
        return Answer(200, {"ok": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """What happens to machines.

    Attributes:
        make: Makes one: of an app, with a name, in a region, with a config.
        start, suspend, end: Turn one.
    """

    make: Callable[[str, str, str, dict[str, Any]], FlyBox]
    start: Callable[[FlyBox], Awaitable[None]]
    suspend: Callable[[FlyBox], Awaitable[None]]
    end: Callable[[FlyBox], Awaitable[None]]
