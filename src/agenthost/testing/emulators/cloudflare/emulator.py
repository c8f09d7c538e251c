"""The emulator: Cloudflare's edge, the real Worker behind it, and the engine in place of containers."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agenthost.background import BackgroundTasks
from agenthost.testing.edge import Edge, EdgeRules
from agenthost.testing.emulators.base.boxes import Boxes
from agenthost.testing.emulators.base.emulator import HttpEmulator
from agenthost.testing.emulators.base.machines import Account, Machines
from agenthost.testing.emulators.base.rest import reply
from agenthost.testing.emulators.base.streams import Passing, Streams
from agenthost.testing.emulators.cloudflare.containers import CloudflareBox, ContainerError, Containers
from agenthost.testing.emulators.cloudflare.programs import Programs
from agenthost.testing.loopback import ClientGoneError, Exchange, LoopbackServer

if TYPE_CHECKING:
    from agenthost.testing.emulators.cloudflare.worker import RunningWorker

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
        worker: Callable[[], AbstractAsyncContextManager[RunningWorker]],
    ) -> None:
        super().__init__()
        self._new_worker = worker
        self._worker = AsyncExitStack()
        self.boxes = Boxes[CloudflareBox](tasks, self.clock, self._end)
        self.worker_url = self.engine_url = ""
        self.started = 0
        self._under_way = Streams()
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

    def cut_calls(self) -> int:
        """Break off every call to the Worker that ends by itself, unanswered. Returns how many there were."""
        return self._under_way.cut()

    async def start_worker(self) -> None:
        """Start the Worker; one that runs ends first, as if it crashed. What it has written down stays."""
        await self.end_worker()
        self.worker_url = (await self._worker.enter_async_context(self._new_worker())).url

    async def end_worker(self) -> None:
        """End the Worker. Containers run on. Idempotent."""
        worker, self._worker = self._worker, AsyncExitStack()
        await worker.aclose()

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
            with self._under_way.opened(), suppress(ClientGoneError):  # an answer that a test has lost
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
    max_lifetime: float = 24 * 3600.0,
    closed_to: Collection[str] | None = None,
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
        max_lifetime: Seconds that the Worker lets a sandbox live.
        closed_to: The hosts that the Worker states as those that sandboxes reach. None is every host.

    Raises:
        MissingExtraError: What the Worker is made of and runs in is not installed.
    """
    from agenthost.testing.emulators.cloudflare.worker import running_worker

    key, egress = secrets.token_hex(32), "open" if closed_to is None else "closed"
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
            worker=lambda: running_worker(
                running.engine_url,
                key,
                egress=egress,
                allowed_hosts=tuple(closed_to or ()),
                max_lifetime=max_lifetime,
                storage=machines.directory / "worker",
            ),
        )
        found.append(running)
        engine = await stack.enter_async_context(LoopbackServer(contain))
        running.engine_url = engine.url
        stack.push_async_callback(running.end_worker)
        await running.start_worker()
        front = await stack.enter_async_context(LoopbackServer(handle))
        running.options = {"worker_url": front.url, "api_key": key, "egress": egress}
        yield running
