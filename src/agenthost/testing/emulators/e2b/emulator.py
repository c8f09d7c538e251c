"""The emulator: one loopback server that is E2B's control plane and the way to every sandbox."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import anyio

from agenthost.background import BackgroundTasks
from agenthost.testing.emulators.e2b.boxes import HOME, WORKDIR, Box, Boxes
from agenthost.testing.emulators.e2b.control import Control, new_id
from agenthost.testing.emulators.e2b.daemon import Daemon
from agenthost.testing.emulators.e2b.faults import Faults
from agenthost.testing.emulators.e2b.programs import Programs
from agenthost.testing.emulators.e2b.rates import Rate
from agenthost.testing.emulators.e2b.templates import Templates, Usable
from agenthost.testing.emulators.machines import Account, Machines
from agenthost.testing.emulators.packing import unpack
from agenthost.testing.loopback import Exchange, HttpRequest, LoopbackServer

_log = logging.getLogger("agenthost.testing.emulators.e2b")

_END_KEPT = 30.0  # seconds that the end of a program is known
# Of the larger plan; how many it takes at once is not known.
_CREATES_AT_ONCE, _CREATES_EACH_SECOND = 10, 5.0


class Emulator:
    """What a test holds of the emulator. Use ``emulator``.

    Attributes:
        faults: What is to go wrong.
        calls: Every call that came, as method and path.
        limited: Those that came with a limit of time.
        unknown: Those that it does not know.
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
        longest: float,
        end_kept: float,
        creates: Rate | None,
    ) -> None:
        self.faults = Faults()
        self.calls: list[str] = []
        self.limited: list[str] = []
        self.unknown: list[str] = []
        self.boxes = Boxes(tasks)
        self.templates = Templates(machines.directory / "templates", tasks, build_env)
        self._server = server
        self._machines = machines
        self._tasks = tasks
        self._friendly = friendly
        self._env = dict(env)
        self._end_kept = end_kept
        self._key = f"e2b_{secrets.token_hex(20)}"
        self._control = Control(
            self.boxes, self.templates, self._make, key=self._key, longest=longest, creates=creates
        )
        self._daemon = Daemon(self.boxes)
        self._working = 0
        self._done = anyio.Event()
        self._open: set[anyio.CancelScope] = set()

    @property
    def options(self) -> dict[str, Any]:
        """What the provider is opened with."""
        return {"api_key": self._key, "api_url": self._server.url, "sandbox_url": self._server.url}

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
        """How many sandboxes are told at once; it can be set."""
        return self._control.page

    @page.setter
    def page(self, size: int) -> None:
        self._control.page = size

    def box(self, sandbox_id: str) -> Box:
        """Return a sandbox by its id. KeyError when it has ended."""
        return self.boxes.all[sandbox_id]

    def site(self, image: str) -> Path:
        """Return what a template that was built has at /opt/agenthost/site; it goes with the emulator."""
        found = self.templates.usable(image)
        if found is None or found.site is None:
            raise KeyError(image)
        return found.site

    def cut(self) -> None:
        """Cut every connection to a program. The programs run on."""
        for scope in tuple(self._open):
            scope.cancel()

    def stall(self) -> None:
        """Let no more bytes pass to or from any program, with every connection open, until ``flow``."""
        self._daemon.flowing = anyio.Event()

    def flow(self) -> None:
        """Let what was stalled go on."""
        self._daemon.flowing.set()

    async def lose(self, sandbox_id: str) -> None:
        """Let a sandbox be lost, as by a failure of its machine."""
        await self.boxes.end(self.box(sandbox_id))

    def expire(self, sandbox_id: str) -> None:
        """Let its time be over now."""
        self.box(sandbox_id).set_end(0)

    async def settled(self) -> None:
        """Return when every call to the control plane is done, also those whose clients have gone away."""
        while self._working:
            await self._done.wait()

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        if "x-api-key" not in exchange.request.headers:
            await self._handle(exchange)
            return
        self._working += 1
        try:
            await self._handle(exchange)
        finally:
            self._working -= 1
            self._done.set()
            self._done = anyio.Event()

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        call = f"{request.method} {urlsplit(request.target).path}"
        self.calls.append(call)
        if "connect-timeout-ms" in request.headers:
            self.limited.append(call)
        fault = self.faults.next(call)
        if fault is not None:
            if fault.hold:
                await fault.wait_released()
            if fault.drop:
                return
            if fault.after:
                await self._control.answer(_Lost(exchange))
            if fault.status is not None:
                body = b'{"code": %d, "message": "%b"}' % (fault.status, fault.message.encode())
                headers = {"content-type": "application/json", **fault.headers}
                await exchange.reply(fault.status, body, headers)
                return
            if fault.lose:
                exchange = _Lost(exchange)
        with anyio.CancelScope() as scope:
            if "/process.Process/S" in call or call.endswith("/Connect"):
                self._open.add(scope)
            try:
                # What is meant for a sandbox is its own, whatever its path is.
                part = self._daemon if "e2b-sandbox-id" in request.headers else self._control
                known = await part.answer(exchange)
            finally:
                self._open.discard(scope)
            if not known and "x-api-key" not in request.headers:
                # Nobody's call to the control plane, and the proxy knows a sandbox by headers alone here.
                await exchange.reply(400, b'{"code": 400, "message": "Invalid host"}')
            elif not known:
                self.unknown.append(call)
                _log.error("the emulator of E2B does not know: %s", call)
                await exchange.reply(501, b'{"code": 501, "message": "the emulator does not know this call"}')

    async def _make(self, body: Mapping[str, Any], image: Usable) -> Box:
        template = image.template
        network: dict[str, Any] = body.get("network") or {}
        internet = body.get("allow_internet_access")
        # Whatever is allowed by name is not on this machine.
        is_open = internet is not False and "0.0.0.0/0" not in network.get("denyOut", [])
        machine = await self._machines.make(workdir=WORKDIR, network=is_open, site=image.site, env=self._env)
        if image.files is not None:
            try:
                await unpack(machine, image.files)
            except BaseException:
                await machine.end()
                raise
        programs = Programs(machine, self._tasks, end_kept=self._end_kept, friendly=self._friendly)
        on_timeout: Literal["kill", "pause"] = "pause" if body.get("autoPause") else "kill"
        auto_resume: dict[str, Any] = body.get("autoResume") or {}
        now = time.time()
        box = Box(
            id=new_id(),
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


class _Lost(Exchange):
    """Does what was asked for, and cuts the connection instead of answering."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange.request, exchange.incoming)

    async def reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Say nothing."""


@asynccontextmanager
async def emulator(
    *,
    friendly: bool = False,
    env: Mapping[str, str] | None = None,
    build_env: Mapping[str, str] | None = None,
    templates: Mapping[str, Path] | None = None,
    longest: float = 24 * 3600.0,
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
            longest=longest,
            end_kept=end_kept,
            creates=None if friendly else Rate(creates_at_once, creates_each_second),
        )
        for name, site in (templates or {}).items():
            running.templates.add(name, site)
        found.append(running)
        yield running
