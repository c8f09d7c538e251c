"""The emulator: one loopback server that is Vercel's API."""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from agenthost.background import BackgroundTasks
from agenthost.testing.emulators.base.archive import unpack
from agenthost.testing.emulators.base.boxes import Boxes
from agenthost.testing.emulators.base.emulator import HttpEmulator
from agenthost.testing.emulators.base.machines import Account, Machines
from agenthost.testing.emulators.base.ports import relay
from agenthost.testing.emulators.base.rest import reply
from agenthost.testing.emulators.vercel import commands, control
from agenthost.testing.emulators.vercel.api import ROOT, Api, Call, Handler, Refusal
from agenthost.testing.emulators.vercel.boxes import HOME, PROJECT, TEAM, WORKDIR, VercelBox, new_id
from agenthost.testing.emulators.vercel.commands import Commands
from agenthost.testing.emulators.vercel.control import Control, Plan
from agenthost.testing.emulators.vercel.snapshots import Snapshot, Snapshots
from agenthost.testing.loopback import Exchange, LoopbackServer

CREATE = f"POST {ROOT}/v3/sandboxes"
_SUBDOMAIN = "sb-"  # how those of ports begin


class Emulator(HttpEmulator[VercelBox]):
    """What a test holds of the emulator. Use ``emulator``.

    Attributes:
        snapshots: The snapshots.
        page: How many sandboxes a list has at once, at most; it can be set.
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
        stream_seconds: float,
        stdin: bool,
        list_lag: float,
        plan: Plan,
    ) -> None:
        super().__init__()
        self.boxes = Boxes[VercelBox](tasks, self.clock, self._end, list_lag=list_lag)
        self.snapshots = Snapshots(self.clock)
        self._url = server.url
        self._machines = machines
        self._friendly = friendly
        self._env = dict(env)
        self._token = f"vcp_{secrets.token_hex(20)}"
        self._oidc: dict[str, float] = {}
        self.options = {
            "token": self._token,
            "team_id": TEAM,
            "project_id": PROJECT,
            "base_url": server.url + ROOT,
        }
        self.control = Control(self.boxes, self.clock, self.snapshots, self._make, self._end, plan=plan)
        programs = Commands(
            self.control.session,
            tasks,
            self.clock,
            self.streams,
            directory=machines.directory / "root",
            build_env=build_env,
            stream_seconds=stream_seconds,
            stdin=stdin,
            friendly=friendly,
        )
        routes: dict[str, Handler] = {}
        for owner, named in ((self.control, control.ROUTES), (programs, commands.ROUTES)):
            routes.update({route: getattr(owner, name) for route, name in named.items()})
        self._api = Api(routes, self._check)

    def box_of(self, name: str) -> VercelBox:
        """Return the newest session of a sandbox. KeyError: there is none."""
        found = [box for box in self.boxes.all.values() if box.name == name]
        if not found:
            raise KeyError(name)
        return found[-1]

    def oidc_token(self, seconds: float) -> str:
        """Return a token as ``vercel env pull`` brings one, that is accepted for so long."""
        end = self.clock.now() + seconds
        claims = {"owner_id": TEAM, "project_id": PROJECT, "exp": end, "jti": secrets.token_hex(8)}
        parts = [urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in ({}, claims)]
        token = ".".join([*parts, "c2lnbmF0dXJl"])
        self._oidc[token] = end
        return token

    def add_snapshot(self, name: str, site: Path) -> str:
        """Have a snapshot of a sandbox of this name, with a site at /opt/agenthost/site; return its id."""
        made = Snapshot(new_id("snap_"), name, new_id("sbx_"), self.clock.now(), None, b"", site)
        self.snapshots.all[made.id] = made
        return made.id

    async def resume(self, name: str, snapshot: str) -> VercelBox:
        """Have another client start another session of a sandbox that has stopped; return it."""
        box = self.box_of(name)
        made = await self._make(box.body, self.snapshots.all[snapshot])
        made.state, made.snapshot, box.removed = "running", snapshot, True
        return made

    async def lose(self, sandbox_id: str) -> None:
        """Have a session be lost, as by a failure of its machine."""
        await self._end(self.box(sandbox_id))

    def is_control(self, exchange: Exchange) -> bool:
        """Return whether a request ends by itself: one about a program may last as long as that."""
        target = exchange.request.target
        return "/cmd/" not in target and not target.startswith(f"/{_SUBDOMAIN}")

    async def route(self, exchange: Exchange, call: str) -> bool:
        """Answer one request; False: it is not known."""
        del call
        subdomain, _, rest = exchange.request.target.removeprefix("/").partition("/")
        if subdomain.startswith(_SUBDOMAIN):
            await self._forward(subdomain, f"/{rest}", exchange)
            return True
        return await self._api.answer(exchange)

    async def _forward(self, subdomain: str, target: str, exchange: Exchange) -> None:
        box = next((box for box in self.boxes.running() if subdomain in box.ports), None)
        if box is not None:
            inner = Exchange(replace(exchange.request, target=target), exchange.incoming)
            if await relay(
                box.machine, box.ports[subdomain], inner, host=f"{subdomain}.vercel.run", without=()
            ):
                return
        await reply(exchange, 502, {"error": {"code": "SANDBOX_NOT_LISTENING", "message": "Bad gateway"}})

    def _check(self, call: Call) -> None:
        scheme, _, token = call.exchange.request.headers.get("authorization", "").partition(" ")
        is_valid = token == self._token or self._oidc.get(token, 0) > self.clock.now()
        if self.faults.revoked or scheme != "Bearer" or not is_valid or call.parameter("teamId") != TEAM:
            raise Refusal(403, "forbidden", "Not authorized")

    async def _end(self, box: VercelBox) -> None:
        if self.boxes.mark_ended(box, forget=False):
            box.state, box.stopped_at = "stopped", self.clock.now()
            await box.machine.end()

    async def _make(self, body: Mapping[str, Any], snapshot: Snapshot | None) -> VercelBox:
        policy: dict[str, Any] = body.get("networkPolicy") or {}
        # Whatever is allowed by name is not on this machine.
        is_open = policy.get("mode") != "deny-all" and ("allow" not in policy or "*" in policy["allow"])
        site = None if snapshot is None else snapshot.site
        machine = await self._machines.make(workdir=WORKDIR, network=is_open, site=site, env=self._env)
        if snapshot is not None and snapshot.files:
            try:
                await unpack(machine, snapshot.files)
            except BaseException:
                await machine.end()
                raise
        ports: list[int] = body.get("ports") or []
        now, session = self.clock.now(), new_id("sbx_")
        box = VercelBox(
            id=f"{body['name']}.{session}",
            name=body["name"],
            session=session,
            machine=machine,
            body=dict(body),
            url=self._url,
            ports={f"{_SUBDOMAIN}{secrets.token_hex(6)}": port for port in ports},
            site=site,
            started_at=now,
            end_at=now + body.get("timeout", 300_000) / 1000,
            state="running" if self._friendly else "pending",
        )
        self.boxes.add(box)
        return box


@asynccontextmanager
async def emulator(
    *,
    friendly: bool = False,
    env: Mapping[str, str] | None = None,
    build_env: Mapping[str, str] | None = None,
    snapshots: Mapping[str, Path] | None = None,
    longest: float = 24 * 3600.0,
    most_running: int = 2000,
    most_cores: int = 32,
    header_rules: bool = True,
    stdin: bool = True,
    stream_seconds: float = 300.0,
    list_lag: float = 0.0,
    creates_at_once: int = 20,
    creates_each_second: float = 1.0,
) -> AsyncGenerator[Emulator]:
    """Run an emulator of Vercel Sandbox on loopback; leaving the block ends it and all its sandboxes.

        async with emulator() as vercel, open_provider("vercel", **vercel.options) as provider:
            ...

    Args:
        friendly: It passes output whole, has no pending sandboxes, cuts no stream and makes sandboxes as
            often as one likes, for tests that are not about this.
        env: Added to the environment of every program of every sandbox.
        build_env: The environment of programs that are root: where packages are, for instance.
        snapshots: Snapshots that were taken before, by the names of their sandboxes: what each has at
            /opt/agenthost/site.
        longest: Seconds that a sandbox may live.
        most_running: How many sandboxes may run at once.
        most_cores: How many cores a sandbox may have.
        header_rules: Whether the account may have headers added to requests of sandboxes.
        stdin: Whether programs can have input.
        stream_seconds: Seconds after which a stream is cut, by the emulator's clock.
        list_lag: Seconds until a new sandbox is in the list.
        creates_at_once: How many sandboxes may be made at once.
        creates_each_second: How many more with each second; a client that makes more has to wait.
    """
    found: list[Emulator] = []

    async def handle(exchange: Exchange) -> None:
        await found[0].handle(exchange)

    async with (
        Machines(Account("ubuntu", 1000, HOME)) as machines,
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
            stream_seconds=24 * 3600.0 if friendly else stream_seconds,
            stdin=stdin,
            list_lag=list_lag,
            plan=Plan(longest, most_running, most_cores, header_rules),
        )
        if not friendly:
            running.faults.limit(CREATE, creates_at_once, creates_each_second)
        for name, site in (snapshots or {}).items():
            running.add_snapshot(name, site)
        found.append(running)
        yield running
