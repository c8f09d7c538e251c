"""The emulator: one loopback server is the Machines API, another the proxy that leads to machines."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from agenthost.background import BackgroundTasks
from agenthost.errors import AgentHostError, ConfigError
from agenthost.testing.edge import Edge
from agenthost.testing.emulators.base.boxes import Boxes
from agenthost.testing.emulators.base.emulator import HttpEmulator
from agenthost.testing.emulators.base.machines import Account, Machines
from agenthost.testing.emulators.fly.boxes import HOME, FlyBox
from agenthost.testing.emulators.fly.config import COATS, command_of, files_of
from agenthost.testing.emulators.fly.control import App, Control, Turns, refusal_body
from agenthost.testing.emulators.fly.proxy import Proxy
from agenthost.testing.loopback import Exchange, LoopbackServer

APP = "sandboxes"
_WORKDIR = "/workspace"
_UNROUTED = 3  # requests that the proxy answers itself, of a new machine


class Emulator(HttpEmulator[FlyBox]):
    """What a test holds of the emulator. Use ``emulator``.

    Attributes:
        edge: How the proxy passes requests on: its rules, and faults that a test plans.
        proxied: Every request that came to the proxy: its headers, ``method`` and ``target``.
        apps: The apps, by their names.
        full: By region, what it answers, since it has no room. A test can change it.
    """

    def __init__(
        self,
        machines: Machines,
        tasks: BackgroundTasks,
        edge: Edge,
        *,
        friendly: bool,
        env: Mapping[str, str],
        images: Mapping[str, Path],
        list_lag: float,
        token: str,
        foreign_apps: Collection[str],
        full: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.boxes = Boxes[FlyBox](tasks, self.clock, self._end, list_lag=list_lag)
        self._machines = machines
        self._tasks = tasks
        self._friendly = friendly
        self._env = dict(env)
        self._images = dict(images)
        turns = Turns(make=self._make, start=self._start, suspend=self._suspend, end=self._end)
        self._control = Control(
            self.boxes,
            self.faults,
            turns,
            token=token,
            foreign=foreign_apps,
            full=full,
            is_limited=not friendly,
        )
        self.apps = self._control.apps
        self.full = self._control.full
        self.apps[APP] = App(APP, "personal", APP, {"shared_v4": "203.0.113.7", "v6": "2001:db8::7"})
        self._proxy = Proxy(self.boxes, self.streams, self.faults, edge, self._start, self._has_address)
        self.proxied = self._proxy.requests
        self.edge = edge

    async def lose(self, sandbox_id: str) -> None:
        """Have a machine be lost, as by a failure of its host."""
        await self._end(self.box(sandbox_id))

    def forget_memory(self, sandbox_id: str) -> None:
        """Have a machine that is suspended start without its memory; its files are kept."""
        self.box(sandbox_id).keeps_memory = False

    async def look_for_idle(self) -> None:
        """Do what the proxy does every few minutes: stop or suspend machines that get no requests."""
        for box in self.boxes.running():
            autostop = (box.service or {}).get("autostop", "off")
            if box.requests or box.state != "started" or autostop in ("off", False):
                continue
            await (self._suspend(box) if autostop == "suspend" else self._stop(box))

    def is_control(self, exchange: Exchange) -> bool:
        """Return True: requests to machines come to another server."""
        del exchange
        return True

    async def route(self, exchange: Exchange, call: str) -> bool:
        """Answer one call of the Machines API; False: it is not known."""
        del call
        return await self._control.api.answer(exchange)

    def refusal_body(self, status: int, message: str) -> object:
        """Return an error as Fly words it."""
        return refusal_body(status, message)

    async def proxy(self, exchange: Exchange) -> None:
        """Answer one request for a machine."""
        await self._proxy.handle(exchange)

    def _has_address(self, app: str) -> bool:
        return app in self.apps and bool(self.apps[app].addresses)

    # ---- what happens to machines

    def _make(self, app: str, name: str, region: str, config: dict[str, Any]) -> FlyBox:
        box = FlyBox(
            id=secrets.token_hex(7),
            started_at=self.clock.now(),
            machine=None,
            app=app,
            name=name,
            region=region,
            config=config,
            unrouted=0 if self._friendly else _UNROUTED,
        )
        box.turn("created")
        self.boxes.add(box)
        self._tasks.start_soon(self._boot, box)
        return box

    async def _boot(self, box: FlyBox) -> None:
        async with box.turning:
            if box.ended.is_set():
                return
            site = self._images.get(box.config["image"])
            described = {
                "FLY_APP_NAME": box.app,
                "FLY_MACHINE_ID": box.id,
                "FLY_REGION": box.region,
                "FLY_IMAGE_REF": box.config["image"],
                "FLY_PRIVATE_IP": box.private_ip,
            }
            asked: dict[str, str] = box.config.get("env") or {}
            env = {"HOME": HOME, **described, **asked, **self._env}
            box.machine = await self._machines.make(workdir=_WORKDIR, network=True, site=site, env=env)
            for path, (data, mode) in files_of(box.config).items():
                await box.machine.sandbox.write_file(path, data, mode=mode)
            if box.ended.is_set():  # meanwhile: what waits for its turn ends the machine
                return
            box.turn("started")
            self._tasks.start_soon(self._run_main, box)

    async def _run_main(self, box: FlyBox) -> None:
        assert box.machine is not None
        box.boots += 1
        boot = box.boots
        with suppress(AgentHostError, OSError):  # the machine has ended, or there is no such program
            process = await box.machine.start(command_of(box.config), cwd="/")
            for receive in (process.receive_stdout, process.receive_stderr):
                self._tasks.start_soon(_drain, receive)
            await process.wait()
        if not box.ended.is_set() and box.boots == boot:
            await (self._end(box) if box.config.get("auto_destroy") else self._stop(box))

    async def _start(self, box: FlyBox) -> None:
        async with box.turning:
            if box.state == "suspended" and box.keeps_memory:
                await box.signal_all("CONT")
                box.turn("started")
            elif box.state in ("suspended", "stopped"):
                box.boots += 1  # what its main program does from here on is of no interest
                await box.signal_all("KILL")
                box.turn("started")
                self._tasks.start_soon(self._run_main, box)

    async def _suspend(self, box: FlyBox) -> None:
        async with box.turning:
            if box.state == "started":
                await box.signal_all("STOP")
                box.turn("suspended")
                self.streams.cut()

    async def _stop(self, box: FlyBox) -> None:
        async with box.turning:
            if box.state == "started":
                box.turn("stopped")
                await box.signal_all("KILL")

    async def _end(self, box: FlyBox) -> None:
        if not self.boxes.mark_ended(box, forget=False):
            return
        box.turn("destroyed")
        async with box.turning:  # one that is being made is made first
            if box.machine is not None:
                await box.machine.end()


async def _drain(receive: Callable[[], Awaitable[bytes]]) -> None:
    with suppress(AgentHostError, OSError):  # the machine has ended
        while await receive():
            pass  # Fly's log has it


@asynccontextmanager
async def emulator(
    *,
    friendly: bool = False,
    env: Mapping[str, str] | None = None,
    images: Mapping[str, Path] | None = None,
    foreign_apps: Collection[str] = (),
    full: Mapping[str, str] | None = None,
    list_lag: float = 0.0,
) -> AsyncGenerator[Emulator]:
    """Run an emulator of Fly Machines on loopback; leaving the block ends it and all its machines.

        async with emulator() as fly, open_provider("fly", **fly.options) as provider:
            ...

    Args:
        friendly: It knows new machines everywhere at once, and takes calls as often as one likes, for tests
            that are not about this.
        env: Added to the environment of every machine: where packages are, for instance.
        images: What an image has at /opt/agenthost/site, by its name. Any other image has no SDK.
        foreign_apps: Names of apps that another organisation has.
        full: By region, what it answers, since it has no room: resources, memory, quota, volume, reserve or
            status.
        list_lag: Seconds until a new machine is in the list.

    Raises:
        ConfigError: A region of ``full`` answers something else.
    """
    for region, coat in (full or {}).items():
        if coat not in COATS:
            raise ConfigError(f"full[{region!r}] is {coat!r}; it must be one of: {', '.join(COATS)}")
    token = f"fm2_{secrets.token_hex(20)}"
    found: list[Emulator] = []

    async def handle(exchange: Exchange) -> None:
        await found[0].handle(exchange)

    async def proxy(exchange: Exchange) -> None:
        await found[0].proxy(exchange)

    async with AsyncExitStack() as stack:
        edge = await stack.enter_async_context(Edge())
        machines = await stack.enter_async_context(Machines(Account("root", 0, HOME)))
        tasks = await stack.enter_async_context(BackgroundTasks())
        api = await stack.enter_async_context(LoopbackServer(handle))
        front = await stack.enter_async_context(LoopbackServer(proxy))
        running = Emulator(
            machines,
            tasks,
            edge,
            friendly=friendly,
            env=env or {},
            images=images or {},
            list_lag=list_lag,
            token=token,
            foreign_apps=foreign_apps,
            full=full or {},
        )
        running.options = {"token": token, "app": APP, "api_url": api.url, "app_url": front.url}
        found.append(running)
        yield running
