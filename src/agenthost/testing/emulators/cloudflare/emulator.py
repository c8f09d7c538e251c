"""The emulator: Cloudflare's edge, the real Worker behind it, and the engine in place of containers."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from agenthost.background import BackgroundTasks
from agenthost.testing.edge import Edge, EdgeRules
from agenthost.testing.emulators.base.boxes import Boxes
from agenthost.testing.emulators.base.emulator import HttpEmulator
from agenthost.testing.emulators.base.machines import Account, Machines
from agenthost.testing.emulators.base.rest import reply
from agenthost.testing.emulators.base.streams import Passing
from agenthost.testing.emulators.cloudflare.containers import CloudflareBox, ContainerError, Containers
from agenthost.testing.emulators.cloudflare.programs import Programs
from agenthost.testing.loopback import ClientGoneError, Exchange, LoopbackServer

HOME, WORKDIR = "/root", "/workspace"
_ROOT = "/agenthost/v1"
_STREAMED = ("/exec", "/guest/")
_DAY = 24 * 3600.0  # seconds after which a container ends whose end the Worker does not set


class Emulator(HttpEmulator[CloudflareBox]):
    """What a test holds of the emulator. Use ``emulator``.

    Attributes:
        edge: How requests to guests and programs pass before the Worker: its rules, and planned faults.
        containers: What the Worker asks of containers.
        started: How many containers were started.
        worker_url, engine_url: The Worker itself, without the edge, and the engine. Set when they run.
    """

    def __init__(
        self,
        machines: Machines,
        tasks: BackgroundTasks,
        edges: tuple[Edge, Edge, Edge],
        *,
        friendly: bool,
        env: Mapping[str, str],
        site: Path | None,
        most_running: int,
    ) -> None:
        super().__init__()
        self.boxes = Boxes[CloudflareBox](tasks, self.clock, self._end)
        self.worker_url = self.engine_url = ""
        self.started = 0
        self.edge, self._whole, inner = edges
        self._machines, self._site = machines, site
        self._env = {"HOME": HOME, **env}
        self._most_running = most_running
        self.containers = Containers(
            self.boxes,
            self.clock,
            self.faults,
            self.streams,
            Programs(tasks, splits=not friendly),
            inner,
            start=self._start,
            end=self._end,
            locks=friendly,
        )

    async def lose(self, sandbox_id: str) -> None:
        """Have a container end, as by a failure of its host, or because it slept: nothing of it is kept."""
        await self._end(self.box(sandbox_id))

    async def replace(self, sandbox_id: str) -> None:
        """Have a container be replaced by a new one, as by a rollout."""
        box = self.box(sandbox_id)
        await self._start(box.owner)
        await self._end(box)

    def fabricate_exit(self, argument: str) -> None:
        """Have the exit code 0 be reported of the next program with such an argument; the program runs on.

        Args:
            argument: A part of one.
        """
        self.containers.fabricated = argument

    def is_control(self, exchange: Exchange) -> bool:
        """Return whether a request ends by itself."""
        return not any(part in exchange.request.target for part in _STREAMED)

    async def route(self, exchange: Exchange, call: str) -> bool:
        """Pass one request on to the Worker; False: it is not of agenthost's routes."""
        if not call.partition(" ")[2].startswith(_ROOT):
            return False
        if self.faults.revoked:
            await reply(exchange, 401, self.refusal_body(401, "unauthorized"))
        elif self.is_control(exchange):
            with suppress(ClientGoneError):  # an answer that a test has lost
                await self._whole.forward(exchange, self.worker_url)
        else:
            with self.streams.opened():
                await self.edge.forward(Passing(exchange, self.streams), self.worker_url)
        return True

    def refusal_body(self, status: int, message: str) -> object:
        """Return the body of a refusal, as the Worker words it."""
        return {"error": {"code": str(status), "message": message}}

    async def _start(self, owner: str) -> CloudflareBox:
        if len(self.boxes.running()) >= self._most_running:
            raise ContainerError(503, "capacity_exceeded", "the instance limit was reached")
        machine = await self._machines.make(workdir=WORKDIR, network=True, site=self._site, env=self._env)
        self.started += 1
        now = self.clock.now()
        box = CloudflareBox(
            id=f"{owner}.{self.started}" if owner in self.boxes.all else owner,
            owner=owner,
            started_at=now,
            end_at=now + _DAY,
            machine=machine,
        )
        self.boxes.add(box)
        return box

    async def _end(self, box: CloudflareBox) -> None:
        if self.boxes.mark_ended(box, forget=True):
            assert box.machine is not None
            await box.machine.end()


@asynccontextmanager
async def emulator(
    *,
    friendly: bool = False,
    env: Mapping[str, str] | None = None,
    site: Path | None = None,
    most_running: int = 100,
) -> AsyncGenerator[Emulator]:
    """Run the Worker with an engine of containers on loopback; leaving the block ends all of it.

        async with emulator() as cloudflare, open_provider("cloudflare", **cloudflare.options) as provider:
            ...

    Args:
        friendly: Of several first calls one starts a container, and output comes as it was printed, for tests
            that are not about this.
        env: Added to the environment of every container: where packages are, for instance.
        site: What the image has at /opt/agenthost/site. None is an image without the SDK.
        most_running: How many containers may run at once.

    Raises:
        MissingExtraError: What the Worker is made of and runs in is not installed.
    """
    from agenthost.testing.emulators.cloudflare.worker import running_worker

    key = secrets.token_hex(32)
    found: list[Emulator] = []

    async def handle(exchange: Exchange) -> None:
        await found[0].handle(exchange)

    async def contain(exchange: Exchange) -> None:
        await found[0].containers.handle(exchange)

    async with AsyncExitStack() as stack:
        edge = await stack.enter_async_context(Edge())
        whole = await stack.enter_async_context(Edge(EdgeRules(complete=True)))
        inner = await stack.enter_async_context(Edge())
        machines = await stack.enter_async_context(Machines(Account("root", 0, HOME)))
        tasks = await stack.enter_async_context(BackgroundTasks())
        running = Emulator(
            machines,
            tasks,
            (edge, whole, inner),
            friendly=friendly,
            env=env or {},
            site=site,
            most_running=most_running,
        )
        found.append(running)
        engine = await stack.enter_async_context(LoopbackServer(contain))
        running.engine_url = engine.url
        worker = await stack.enter_async_context(running_worker(engine.url, key))
        running.worker_url = worker.url
        front = await stack.enter_async_context(LoopbackServer(handle))
        running.options = {"worker_url": front.url, "api_key": key}
        yield running
