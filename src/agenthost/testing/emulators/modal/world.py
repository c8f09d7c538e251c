"""What there is: apps, images, secrets, sandboxes. Both services work on it."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from modal_proto import api_pb2

from agenthost.background import BackgroundTasks
from agenthost.errors import AgentHostError
from agenthost.testing.emulators.machines import Machine, Machines
from agenthost.testing.emulators.modal.faults import Faults
from agenthost.testing.emulators.modal.image_store import ImageStore
from agenthost.testing.emulators.modal.output import Output
from agenthost.testing.emulators.modal.programs import Program
from agenthost.testing.emulators.modal.wire import refuse

Results = api_pb2.GenericResult
WORKDIR = "/workspace"  # the machines' root is read-only but for this, /root and /tmp
_FRIENDLY_TOKEN, _HOSTILE_TOKEN = 1200.0, 15.0  # seconds that a token for a worker is good for
_SMALL = 0.2  # of the pieces of a hostile world's output


@dataclass(slots=True)
class Box:
    """A sandbox.

    Attributes:
        definition: What it was made of, as the client said.
        task: The worker's name of it.
        ready: Set when its machine runs.
        done: How it has ended.
        ended: Set then.
        token: What its maker's calls about it bring.
        programs: By the client's name of each.
    """

    id: str
    task: str
    app: str
    name: str
    definition: Any
    tags: dict[str, str]
    env: dict[str, str]
    created: float
    token: str = field(default_factory=secrets.token_hex)
    machine: Machine | None = None
    done: Any = None
    ready: anyio.Event = field(default_factory=anyio.Event)
    ended: anyio.Event = field(default_factory=anyio.Event)
    programs: dict[str, Program] = field(default_factory=dict[str, Program])


class World:
    """Everything behind one emulator."""

    def __init__(
        self, machines: Machines, tasks: BackgroundTasks, images: ImageStore, *, friendly: bool, seed: int
    ) -> None:
        self.faults = Faults(token_seconds=_FRIENDLY_TOKEN if friendly else _HOSTILE_TOKEN)
        self.friendly = friendly
        self.images = images
        self.apps: dict[str, str] = {}
        self.secrets: dict[str, Mapping[str, str]] = {}
        self.boxes: dict[str, Box] = {}
        self.router_url = ""
        self.chance = random.Random(seed)
        self.tasks = tasks
        self.streams: set[anyio.CancelScope] = set()
        self._machines = machines
        self._last = 0.0

    def piece(self) -> int:
        """Return the size of the next piece of output, at most: any, in a hostile world; mostly large."""
        small = not self.friendly and self.chance.random() < _SMALL
        return round(2 ** self.chance.uniform(0, 16)) if small else 1 << 20

    def make(self, request: Any) -> Box:
        """Make a sandbox; its machine comes when it comes."""
        wanted = request.definition
        if wanted.name and self.running(request.app_id, wanted.name) is not None:
            refuse("ALREADY_EXISTS", f"sandbox {wanted.name!r} exists already in this app")
        env: dict[str, str] = {}
        for source in request.secret_sources:
            env.update(source.env.contents if source.HasField("env") else self.secret(source.secret_id))
        # No two were made at the same time: a client that asks for what came before one needs an order.
        self._last = max(time.time(), self._last + 1e-3)
        box = Box(
            id=f"sb-{secrets.token_hex(13).upper()}",
            task=f"ta-{secrets.token_hex(11)}V",
            app=request.app_id,
            name=wanted.name,
            definition=wanted,
            tags={tag.tag_name: tag.tag_value for tag in request.tags},
            env=env,
            created=self._last,
        )
        self.boxes[box.id] = box
        self.tasks.start_soon(self._live, box)
        return box

    def box(self, sandbox_id: str, token: str = "") -> Box:
        """Return a sandbox, running or not. Who made it has a token of it, which must be the right one."""
        if sandbox_id not in self.boxes:
            refuse("NOT_FOUND", f"no sandbox {sandbox_id}")
        box = self.boxes[sandbox_id]
        if token and token != box.token:
            refuse("PERMISSION_DENIED", "the token is another sandbox's")
        return box

    def running(self, app: str, name: str) -> Box | None:
        """Return the running sandbox of a name; there is one at most."""
        for box in self.boxes.values():
            if box.app == app and box.name == name and box.done is None:
                return box
        return None

    def secret(self, secret_id: str) -> Mapping[str, str]:
        """Return what a named secret holds."""
        return self.secrets[secret_id.removeprefix("st-")]

    def finish(self, box: Box, status: Any, code: int = 0, said: str = "") -> None:
        """End a sandbox, with all that runs in it."""
        if box.done is None:
            box.done = Results(status=status, exitcode=code, exception=said)
            box.ended.set()
            box.ready.set()
            if box.machine is not None:
                self.tasks.start_soon(box.machine.end)

    async def machine(self, box: Box) -> Machine:
        """Return a sandbox's machine, when it runs."""
        await box.ready.wait()
        if box.done is not None or box.machine is None:
            refuse("NOT_FOUND", "the task has finished")
        return box.machine

    async def _live(self, box: Box) -> None:
        try:
            image = self.images.get(box.definition.image_id)
            blocked = box.definition.network_access.network_access_type == api_pb2.NetworkAccess.BLOCKED
            machine = await self._machines.make(
                workdir=WORKDIR, network=not blocked, site=image.site, env=box.env
            )
            box.machine = machine
            if box.done is not None:
                await machine.end()
                return
            await image.restore(machine)
            box.ready.set()
            process = await machine.start(list(box.definition.entrypoint_args) or ["sleep", "172800"])
            # Of what a main program prints Modal keeps the end, and does not hold it up.
            main = Program(process, stdout=Output(most=None), stderr=Output(most=None))
            box.programs[""] = main
        except (OSError, AgentHostError) as error:
            self.finish(box, Results.GENERIC_STATUS_INIT_FAILURE, 1, str(error))
            return
        with anyio.move_on_after(box.definition.timeout_secs) as scope:
            await main.follow(None)
        if scope.cancelled_caught:
            self.finish(box, Results.GENERIC_STATUS_TIMEOUT, 124)
        elif main.code == 0:
            self.finish(box, Results.GENERIC_STATUS_SUCCESS)
        else:
            self.finish(box, Results.GENERIC_STATUS_FAILURE, main.code or 1)
