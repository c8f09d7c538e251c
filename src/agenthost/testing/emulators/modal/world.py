"""What there is: apps, images, secrets, sandboxes. Both services work on it."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from modal_proto import api_pb2

from agenthost.background import BackgroundTasks
from agenthost.errors import AgentHostError
from agenthost.testing.emulators.base.boxes import Box, Boxes
from agenthost.testing.emulators.base.emulator import Emulator
from agenthost.testing.emulators.base.machines import Machine, Machines
from agenthost.testing.emulators.modal.image_store import ImageStore
from agenthost.testing.emulators.modal.output import Output
from agenthost.testing.emulators.modal.programs import Program
from agenthost.testing.emulators.modal.wire import refuse

Results = api_pb2.GenericResult
WORKDIR = "/workspace"  # the machines' root is read-only but for this, /root and /tmp
_FRIENDLY_TOKEN, _HOSTILE_TOKEN = 1200.0, 15.0  # seconds that a token for a worker is good for
_SMALL = 0.2  # of the pieces of a hostile world's output


@dataclass(slots=True, kw_only=True)
class ModalBox(Box):
    """A sandbox.

    Attributes:
        definition: What it was made of, as the client said.
        task: The worker's name of it.
        ready: Set when its machine runs, or never will.
        done: How it has ended.
        token: What its maker's calls about it bring.
        programs: By the client's name of each.
    """

    task: str
    app: str
    name: str
    definition: Any
    tags: dict[str, str]
    env: dict[str, str]
    token: str = field(default_factory=secrets.token_hex)
    done: Any = None
    ready: anyio.Event = field(default_factory=anyio.Event)
    programs: dict[str, Program] = field(default_factory=dict[str, Program])


class ModalEmulator(Emulator[ModalBox]):
    """Everything behind one emulator, and what a test holds of it. Use ``emulator``.

    Attributes:
        options: For ``open_provider("modal", ...)`` or ModalProvider.
        token_seconds: How long a token for a worker is good; a client that needs it for longer asks again.
    """

    def __init__(
        self,
        machines: Machines,
        tasks: BackgroundTasks,
        images: ImageStore,
        *,
        friendly: bool,
        seed: int,
        image_builder: str,
        strict_tags: bool,
        odd_ids: bool,
        list_lag: float,
    ) -> None:
        super().__init__()
        self.token_seconds = _FRIENDLY_TOKEN if friendly else _HOSTILE_TOKEN
        self.boxes = Boxes[ModalBox](tasks, self.clock, self._expire, list_lag=list_lag)
        self.friendly = friendly
        self.images = images
        self.image_builder = image_builder
        self.strict_tags = strict_tags
        self._odd_ids = odd_ids
        self.apps: dict[str, str] = {}
        self.secrets: dict[str, Mapping[str, str]] = {}
        self.router_url = ""
        self.chance = random.Random(seed)
        self.tasks = tasks
        self._machines = machines
        self._last = 0.0

    # ---- for tests

    def add_secret(self, name: str, values: Mapping[str, str]) -> None:
        """Keep a named secret, which headers can be made of."""
        self.secrets[name] = dict(values)

    def definition(self, sandbox_id: str) -> Any:
        """Return what a sandbox was asked to be: the message as Modal's client sent it."""
        return self.box(sandbox_id).definition

    def built(self) -> list[str]:
        """Return the ids of the images that were built, in that order, as often as they were."""
        return list(self.images.built)

    def commands(self, image_id: str) -> list[str]:
        """Return what an image was made of, from its base on; nothing of one that another emulator made."""
        image = self.images.find(image_id)
        found: list[str] = []
        while image is not None:
            found = [*image.commands, *found]
            image = image.base
        return found

    def tags(self, sandbox_id: str) -> dict[str, str]:
        """Return a sandbox's tags."""
        return dict(self.box(sandbox_id).tags)

    async def machine(self, sandbox_id: str) -> Machine:
        """Return the machine behind a sandbox, when it runs."""
        return await self.machine_of(self.box(sandbox_id))

    async def lose(self, sandbox_id: str) -> None:
        """Have a sandbox's worker break down."""
        self.finish(self.box(sandbox_id), Results.GENERIC_STATUS_INTERNAL_FAILURE, 1)

    # ---- for the services

    def piece(self) -> int:
        """Return the size of the next piece of output, at most: any, in a hostile world; mostly large."""
        small = not self.friendly and self.chance.random() < _SMALL
        return round(2 ** self.chance.uniform(0, 16)) if small else 1 << 20

    def make(self, request: Any) -> ModalBox:
        """Make a sandbox; its machine comes when it comes."""
        wanted = request.definition
        if wanted.name and self.named(request.app_id, wanted.name) is not None:
            refuse("ALREADY_EXISTS", f"sandbox {wanted.name!r} exists already in this app")
        env: dict[str, str] = {}
        for source in request.secret_sources:
            env.update(source.env.contents if source.HasField("env") else self.secret(source.secret_id))
        # No two were made at the same time: a client that asks for what came before one needs an order.
        self._last = max(self.clock.now(), self._last + 1e-3)
        box = ModalBox(
            id=f"sb-{'v2_' if self._odd_ids else ''}{secrets.token_hex(13).upper()}",
            task=f"ta-{secrets.token_hex(11)}V",
            app=request.app_id,
            name=wanted.name,
            definition=wanted,
            tags={tag.tag_name: tag.tag_value for tag in request.tags},
            env=env,
            machine=None,
            started_at=self._last,
            end_at=self._last + wanted.timeout_secs,
        )
        self.boxes.add(box)
        self.tasks.start_soon(self._live, box)
        return box

    def reached(self, sandbox_id: str, token: str) -> ModalBox:
        """Return a sandbox, running or not. Who made it has a token of it, which must be the right one."""
        if sandbox_id not in self.boxes.all:
            refuse("NOT_FOUND", f"no sandbox {sandbox_id}")
        box = self.box(sandbox_id)
        if token and token != box.token:
            refuse("PERMISSION_DENIED", "the token is another sandbox's")
        return box

    def named(self, app: str, name: str) -> ModalBox | None:
        """Return the running sandbox of a name; there is one at most."""
        return next((box for box in self.boxes.running() if (box.app, box.name) == (app, name)), None)

    def secret(self, secret_id: str) -> Mapping[str, str]:
        """Return what a named secret holds."""
        return self.secrets[secret_id.removeprefix("st-")]

    def finish(self, box: ModalBox, status: Any, code: int = 0, message: str = "") -> None:
        """End a sandbox, with all that runs in it."""
        if box.done is None:
            box.done = Results(status=status, exitcode=code, exception=message)
            self.boxes.mark_ended(box, forget=False)
            box.ready.set()
            if box.machine is not None:
                self.tasks.start_soon(box.machine.end)

    async def machine_of(self, box: ModalBox) -> Machine:
        """Return a sandbox's machine, when it runs."""
        await box.ready.wait()
        if box.done is not None or box.machine is None:
            refuse("NOT_FOUND", "the task has finished")
        return box.machine

    async def _expire(self, box: ModalBox) -> None:
        self.finish(box, Results.GENERIC_STATUS_TIMEOUT, 124)

    async def _live(self, box: ModalBox) -> None:
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
        await main.follow(None)
        if main.code == 0:
            self.finish(box, Results.GENERIC_STATUS_SUCCESS)
        else:
            self.finish(box, Results.GENERIC_STATUS_FAILURE, main.code or 1)
