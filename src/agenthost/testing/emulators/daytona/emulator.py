"""The emulator: one loopback server that is Daytona's API, its toolbox and its ports."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from agenthost.background import BackgroundTasks
from agenthost.testing.emulators.base.boxes import Boxes
from agenthost.testing.emulators.base.emulator import HttpEmulator
from agenthost.testing.emulators.base.machines import Account, Machines
from agenthost.testing.emulators.base.ports import pass_through
from agenthost.testing.emulators.base.rates import Rate
from agenthost.testing.emulators.base.rest import reply
from agenthost.testing.emulators.daytona import control, toolbox
from agenthost.testing.emulators.daytona.api import API, DAEMON, Handler, Refusal, Routes
from agenthost.testing.emulators.daytona.boxes import AUTO_STOP, HOME, TARGET, USER, WORKDIR, DaytonaBox
from agenthost.testing.emulators.daytona.control import Control, Organization
from agenthost.testing.emulators.daytona.snapshots import Snapshot, Snapshots
from agenthost.testing.emulators.daytona.toolbox import Toolbox
from agenthost.testing.loopback import Exchange, LoopbackServer

CREATE = "POST /api/sandbox"
_PREVIEW = "/preview/"
_TOKEN, _LEFT_OUT = "x-daytona-preview-token", "x-daytona-skip-last-activity-update"


class Emulator(HttpEmulator[DaytonaBox]):
    """What a test holds of the emulator. Use ``emulator``.

    Attributes:
        snapshots: The snapshots.
        control: The calls about sandboxes.
    """

    def __init__(
        self,
        server: LoopbackServer,
        machines: Machines,
        tasks: BackgroundTasks,
        *,
        friendly: bool,
        env: Mapping[str, str],
        build_env: Mapping[str, str],
        list_lag: float,
        organization: Organization,
        rate: Rate,
    ) -> None:
        super().__init__()
        self.boxes = Boxes[DaytonaBox](tasks, self.clock, self._end, list_lag=list_lag)
        self.snapshots = Snapshots(machines.directory / "builds", tasks, self.clock, build_env)
        self._url, self._machines, self._env = server.url, machines, dict(env)
        self._friendly = friendly
        self._key = f"dtn_{secrets.token_hex(32)}"
        self.options = {"api_key": self._key, "api_url": f"{server.url}/api", "target": TARGET}
        self.control = Control(
            self.boxes,
            self.clock,
            self.snapshots,
            self._make,
            self._end,
            organization=organization,
            rate=rate,
            url=server.url,
            lingers=not friendly,
        )
        programs = Toolbox(self.control.running, tasks, self.streams)
        self._services = (
            Routes(_handlers(self.control, control.ROUTES), self._check, API),
            Routes(_handlers(programs, toolbox.ROUTES), self._check, DAEMON),
        )

    def add_snapshot(self, name: str, site: Path) -> None:
        """Have a snapshot that was built before, with a site at /opt/agenthost/site."""
        self.snapshots.add(name, site)

    async def lose(self, sandbox_id: str) -> None:
        """Have a sandbox be lost, as by a failure of its machine."""
        await self._end(self.box(sandbox_id))

    def is_control(self, exchange: Exchange) -> bool:
        """Return whether a request ends by itself: a request to a port may last as long as it likes."""
        target = exchange.request.target
        return target.startswith("/api/") and "build-logs" not in target and "socket.io" not in target

    async def route(self, exchange: Exchange, call: str) -> bool:
        """Answer one request; False: it is not known."""
        del call
        if exchange.request.target.startswith(_PREVIEW):
            await self._forward(exchange)
            return True
        for service in self._services:
            if await service.answer(exchange):
                return True
        return False

    async def _forward(self, exchange: Exchange) -> None:
        name, _, rest = exchange.request.target.removeprefix(_PREVIEW).partition("/")
        port, _, sandbox_id = name.partition("-")
        headers = exchange.request.headers
        box = next((box for box in self.boxes.running() if box.id == sandbox_id), None)
        if box is None or headers.get(_TOKEN) != box.token:
            await reply(
                exchange, 401, {"statusCode": 401, "message": "unauthorized", "source": "DAYTONA_PROXY"}
            )
            return
        if headers.get(_LEFT_OUT) != "true":
            box.touch(self.clock.now())
        inner = Exchange(replace(exchange.request, target=f"/{rest}"), exchange.incoming)
        host = f"{name}.proxy.daytona.work"
        if not await pass_through(box.machine, int(port), inner, host=host, without=("x-daytona-",)):
            await reply(
                exchange, 502, {"statusCode": 502, "message": "bad gateway", "source": "DAYTONA_PROXY"}
            )

    def _check(self, exchange: Exchange) -> None:
        scheme, _, key = exchange.request.headers.get("authorization", "").partition(" ")
        is_events = exchange.request.target.startswith("/api/socket.io/")  # its credential comes later
        if not is_events and (self.faults.revoked or scheme != "Bearer" or key != self._key):
            raise Refusal(401, "Invalid credentials", "UNAUTHORIZED")

    async def _end(self, box: DaytonaBox) -> None:
        if self.boxes.mark_ended(box, forget=True):
            box.state = "destroyed"
            await box.machine.end()

    async def _make(self, name: str, body: Mapping[str, Any], snapshot: Snapshot) -> DaytonaBox:
        is_open = not any(body.get(field) for field in control.NETWORK)
        placeholders = {
            variable: f"dtn_secret_{secrets.token_hex(16)}"
            for mounted in cast("list[dict[str, str]]", body.get("secrets") or [])
            for variable in mounted
        }
        given = cast("dict[str, str]", body.get("env") or {})
        env = {**self._env, **given, **placeholders}
        machine = await self._machines.make(workdir=WORKDIR, network=is_open, site=snapshot.site, env=env)
        now = self.clock.now()
        box = DaytonaBox(
            id=str(uuid.uuid4()),
            name=name,
            machine=machine,
            body=body,
            snapshot=snapshot.name,
            size=snapshot.size,
            site=snapshot.site,
            labels=dict(body.get("labels") or {}),
            url=self._url,
            token=secrets.token_hex(16),
            auto_stop=body.get("autoStopInterval", AUTO_STOP),
            auto_delete=body.get("autoDeleteInterval", -1),
            ttl=body.get("ttlMinutes", 0),
            active_at=now,
            started_at=now,
            end_at=now,
            state="started" if self._friendly else "creating",
        )
        box.plan()
        self.boxes.add(box)
        return box


@asynccontextmanager
async def emulator(
    *,
    friendly: bool = False,
    env: Mapping[str, str] | None = None,
    build_env: Mapping[str, str] | None = None,
    snapshots: Mapping[str, Path] | None = None,
    secrets: Collection[str] = (),
    tier: int = 3,
    most_cores: int = 10_000,
    ignores_network: bool = False,
    list_lag: float = 0.0,
    creates_at_once: int = 300,
    creates_each_second: float = 5.0,
) -> AsyncGenerator[Emulator]:
    """Run an emulator of Daytona on loopback; leaving the block ends it and all its sandboxes.

        async with emulator() as daytona, open_provider("daytona", **daytona.options) as provider:
            ...

    Args:
        friendly: New sandboxes run at once, and may be made as often as one likes, for tests that are not
            about this.
        env: Added to the environment of every program of every sandbox.
        build_env: The environment of the steps of a build: where packages are, for instance.
        snapshots: Snapshots that were built before, by their names: what each has at /opt/agenthost/site.
        secrets: The names of the organization's secrets.
        tier: Of the organization, from 1 to 4; below 3 it cannot choose the network of a sandbox.
        most_cores: How many cores the sandboxes may have together.
        ignores_network: Whether the network that a create asks for is forgotten, without a refusal.
        list_lag: Seconds until a new sandbox is in the list.
        creates_at_once: How many sandboxes may be made at once.
        creates_each_second: How many more with each second; a client that makes more has to wait.
    """
    found: list[Emulator] = []

    async def handle(exchange: Exchange) -> None:
        await found[0].handle(exchange)

    async with (
        Machines(Account(USER, 1000, HOME)) as machines,
        BackgroundTasks() as tasks,
        LoopbackServer(handle) as server,
    ):
        running = Emulator(
            server,
            machines,
            tasks,
            friendly=friendly,
            env=env or {},
            build_env=build_env or {},
            list_lag=list_lag,
            organization=Organization(tier, frozenset(secrets), most_cores, ignores_network),
            rate=Rate(1_000_000 if friendly else creates_at_once, creates_each_second),
        )
        for name, site in (snapshots or {}).items():
            running.add_snapshot(name, site)
        found.append(running)
        yield running


def _handlers(owner: object, routes: Mapping[str, str]) -> dict[str, Handler]:
    return {route: getattr(owner, name) for route, name in routes.items()}
