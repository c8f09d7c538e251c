"""The emulator: one loopback server that is E2B's control plane and the way to every sandbox."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from agenthost.background import BackgroundTasks
from agenthost.testing.emulators.base.archive import unpack
from agenthost.testing.emulators.base.boxes import Boxes
from agenthost.testing.emulators.base.emulator import HttpEmulator
from agenthost.testing.emulators.base.machines import Account, Machines
from agenthost.testing.emulators.base.rest import reply
from agenthost.testing.emulators.e2b.boxes import HOME, WORKDIR, E2BBox
from agenthost.testing.emulators.e2b.control import Control, Plan, new_id
from agenthost.testing.emulators.e2b.daemon import Daemon
from agenthost.testing.emulators.e2b.programs import Programs
from agenthost.testing.emulators.e2b.templates import Templates, Usable
from agenthost.testing.loopback import Exchange, HttpRequest, LoopbackServer

_END_KEPT = 30.0  # seconds that the end of a program is known
# Of the larger plan; how many it takes at once is not known.
_CREATES_AT_ONCE, _CREATES_EACH_SECOND = 10, 5.0


class Emulator(HttpEmulator[E2BBox]):
    """What a test holds of the emulator. Use ``emulator``.

    Attributes:
        limited: The calls that came with a limit of time.
        templates: The templates.
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
        end_kept: float,
        plan: Plan,
        list_lag: float,
    ) -> None:
        super().__init__()
        self.limited: list[str] = []
        self.boxes = Boxes[E2BBox](tasks, self.clock, self._expire, list_lag=list_lag)
        self.templates = Templates(machines.directory / "templates", tasks, build_env)
        self._machines = machines
        self._tasks = tasks
        self._friendly = friendly
        self._env = dict(env)
        self._end_kept = end_kept
        key = f"e2b_{secrets.token_hex(20)}"
        self.options = {"api_key": key, "api_url": server.url, "sandbox_url": server.url}
        self._control = Control(
            self.boxes,
            self.clock,
            self.faults,
            self.templates,
            self._make,
            self._end,
            key=key,
            plan=plan,
        )
        self._daemon = Daemon(self.boxes, self.streams)

    @property
    def inputs(self) -> Sequence[int]:
        """How many bytes each message of input had that came by a stream."""
        return self._daemon.inputs

    @property
    def keys(self) -> Sequence[str]:
        """Every key of idempotency that came."""
        return self._control.keys

    @property
    def page(self) -> int:
        """How many sandboxes a list has at once; it can be set."""
        return self._control.page

    @page.setter
    def page(self, size: int) -> None:
        self._control.page = size

    def site(self, image: str) -> Path:
        """Return what a template that was built has at /opt/agenthost/site; it goes with the emulator."""
        found = self.templates.usable(image)
        if found is None or found.site is None:
            raise KeyError(image)
        return found.site

    async def lose(self, sandbox_id: str) -> None:
        """Have a sandbox be lost, as by a failure of its machine."""
        await self._end(self.box(sandbox_id))

    def is_control(self, exchange: Exchange) -> bool:
        """Return whether a request is a call to the control plane."""
        return "x-api-key" in exchange.request.headers

    async def route(self, exchange: Exchange, call: str) -> bool:
        """Answer one request; False: it is not known."""
        headers = exchange.request.headers
        if "connect-timeout-ms" in headers:
            self.limited.append(call)
        # What is meant for a sandbox is its own, whatever its path is.
        if "e2b-sandbox-id" in headers:
            return await self._daemon.answer(exchange)
        if await self._control.api.answer(exchange):
            return True
        if self.is_control(exchange):
            return False
        # Nobody's call to the control plane, and the proxy knows a sandbox by headers alone here.
        await reply(exchange, 400, {"code": 400, "message": "Invalid host"})
        return True

    async def _end(self, box: E2BBox) -> None:
        if self.boxes.mark_ended(box, forget=True):
            box.programs.disconnect()
            await box.machine.end()

    async def _expire(self, box: E2BBox) -> None:
        await (box.pause() if box.on_timeout == "pause" else self._end(box))

    async def _make(self, body: Mapping[str, Any], image: Usable) -> E2BBox:
        template = image.template
        network: dict[str, Any] = body.get("network") or {}
        internet = body.get("allow_internet_access")
        # Whatever is allowed by name is not on this machine.
        is_open = internet is not False and "0.0.0.0/0" not in network.get("denyOut", [])
        machine = await self._machines.make(workdir=WORKDIR, network=is_open, site=image.site, env=self._env)
        sandbox_id = new_id()
        if image.files is not None:
            try:
                await unpack(machine, image.files)
            except BaseException:
                await machine.end()
                raise
        account = {"HOME": HOME, "USER": "user", "LOGNAME": "user", "SHELL": "/bin/bash"}
        told = {"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": sandbox_id, "E2B_TEMPLATE_ID": template.id}
        programs = Programs(
            machine,
            self._tasks,
            env={**account, **told, **self._env},
            end_kept=self._end_kept,
            friendly=self._friendly,
        )
        on_timeout: Literal["kill", "pause"] = "pause" if body.get("autoPause") else "kill"
        auto_resume: dict[str, Any] = body.get("autoResume") or {}
        now = self.clock.now()
        box = E2BBox(
            id=sandbox_id,
            clock=self.clock,
            template=template.id,
            alias=template.name,
            cpu=template.cpu,
            memory_mib=template.memory_mib,
            machine=machine,
            programs=programs,
            site=image.site,
            metadata=dict(body.get("metadata") or {}),
            env=dict(body.get("envVars") or {}),
            network=dict(network),
            allow_internet_access=internet,
            started_at=now,
            end_at=now + float(body["timeout"]),
            on_timeout=on_timeout,
            auto_resume=bool(auto_resume.get("enabled")),
        )
        self.boxes.add(box)
        return box


@asynccontextmanager
async def emulator(
    *,
    friendly: bool = False,
    env: Mapping[str, str] | None = None,
    build_env: Mapping[str, str] | None = None,
    templates: Mapping[str, Path] | None = None,
    longest: float = 24 * 3600.0,
    most_running: int = 100,
    header_rules: bool = True,
    list_lag: float = 0.0,
    end_kept: float = _END_KEPT,
    creates_at_once: int = _CREATES_AT_ONCE,
    creates_each_second: float = _CREATES_EACH_SECOND,
) -> AsyncGenerator[Emulator]:
    """Run an emulator of E2B on loopback; leaving the block ends it and all its sandboxes.

        async with emulator() as e2b, open_provider("e2b", **e2b.options) as provider:
            ...

    Args:
        friendly: It keeps what nobody reads, passes output whole and makes sandboxes as often as one likes,
            for tests that are not about this.
        env: Added to the environment of every program of every sandbox.
        build_env: Added to that of the steps by which templates are built: where packages are, for instance.
        templates: Templates that were built before, by their names: what each has at /opt/agenthost/site. See
            ``Emulator.site``.
        longest: Seconds that a sandbox may live.
        most_running: How many sandboxes may run at once.
        header_rules: Whether the account may have headers added to requests of sandboxes.
        list_lag: Seconds until a new sandbox is in the list.
        end_kept: Seconds that the end of a program is known.
        creates_at_once: How many sandboxes may be made at once.
        creates_each_second: How many more with each second; who makes more is told when to come again.
    """
    found: list[Emulator] = []

    async def handle(exchange: Exchange) -> None:
        await found[0].handle(exchange)

    def in_pieces(request: HttpRequest) -> bool:
        return request.target.endswith("/StreamInput")

    async with (
        Machines(Account("user", 1000, HOME)) as machines,
        BackgroundTasks() as tasks,
        LoopbackServer(handle, in_pieces=in_pieces) as server,
    ):
        running = Emulator(
            server,
            machines,
            tasks,
            friendly=friendly,
            env=env or {},
            build_env=build_env or {},
            end_kept=end_kept,
            plan=Plan(longest=longest, most_running=most_running, header_rules=header_rules),
            list_lag=list_lag,
        )
        if not friendly:
            running.faults.limit("POST /v2/sandboxes", creates_at_once, creates_each_second)
        for name, site in (templates or {}).items():
            running.templates.add(name, site)
        found.append(running)
        yield running
