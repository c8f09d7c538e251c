"""The engine: what a Durable Object asks of the container behind it, as requests of the stub in its place."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio

from agenthost.errors import AgentHostError
from agenthost.testing.edge import Edge
from agenthost.testing.emulators.base.boxes import Box, Boxes
from agenthost.testing.emulators.base.clock import Clock
from agenthost.testing.emulators.base.faults import Faults
from agenthost.testing.emulators.base.rest import reply
from agenthost.testing.emulators.base.streams import Passing, Streams
from agenthost.testing.emulators.cloudflare.about import REFUSED
from agenthost.testing.emulators.cloudflare.programs import Programs, encoded
from agenthost.testing.loopback import Exchange

_MOST = 12 * 1024 * 1024  # bytes of a file; the limit of Cloudflare's transport
# The calls of a Durable Object. Faults of these are planned as ``container exec`` and so on.
CALLS = ("start", "running", "exec", "file", "port", "lifetime", "destroy")


class ContainerError(Exception):
    """What a call is refused with: a status, and a code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(slots=True, kw_only=True)
class CloudflareBox(Box):
    """One container.

    Attributes:
        owner: The id of the sandbox. A container that was started beside another one has an id of its own.
    """

    owner: str


class Containers:
    """All containers.

    Args:
        boxes: Those that run.
        clock: By which they end.
        faults: What is to go wrong.
        streams: Which streams are open, so that a test can cut them.
        programs: Starts programs.
        edge: How requests to ports are passed on.
        start: Starts a container for a sandbox.
        end: Ends one.
        locks: Whether of several first calls only one starts a container.

    Attributes:
        commands: The arguments of every program.
        fabricated: Part of an argument. Of the next program that has it, the exit code 0 is reported with its
            first output, while it runs on. An empty text stands for no program.
    """

    def __init__(
        self,
        boxes: Boxes[CloudflareBox],
        clock: Clock,
        faults: Faults,
        streams: Streams,
        programs: Programs,
        edge: Edge,
        *,
        start: Callable[[str], Awaitable[CloudflareBox]],
        end: Callable[[CloudflareBox], Awaitable[None]],
        locks: bool,
    ) -> None:
        self.commands: list[list[str]] = []
        self.fabricated = ""
        self._boxes, self._clock, self._faults, self._streams = boxes, clock, faults, streams
        self._programs, self._edge = programs, edge
        self._start, self._end = start, end
        self._locks = locks
        self._starting: dict[str, anyio.Lock] = {}

    def current(self, owner: str) -> CloudflareBox | None:
        """Return the container of a sandbox: of several, the last one that was started."""
        return next((box for box in reversed(self._boxes.running()) if box.owner == owner), None)

    async def touched(self, owner: str) -> CloudflareBox:
        """Return the container of a sandbox. Where none runs, an empty one is started."""
        if not self._locks:
            return self.current(owner) or await self._start(owner)
        async with self._starting.setdefault(owner, anyio.Lock()):
            return self.current(owner) or await self._start(owner)

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request of the stub."""
        url = urlsplit(exchange.request.target)
        parts = url.path.split("/")  # "", containers, id, call, what follows
        call = parts[3] if len(parts) > 3 else "destroy"
        try:
            if parts[1] != "containers" or call not in CALLS:
                self._faults.unknown.append(f"{exchange.request.method} {url.path}")
                raise ContainerError(501, "unknown", REFUSED["call"])
            fault = await self._faults.strike(f"container {call}")
            if fault is not None and fault.drop:
                return
            if fault is not None and not fault.after and fault.status is not None:
                raise ContainerError(fault.http_status, fault.message, fault.message)
            await getattr(self, f"_answer_{call}")(exchange, parts[2])
        except ContainerError as error:
            await reply(exchange, error.status, {"code": error.code, "message": str(error)})
        except AgentHostError as error:  # the container has ended
            if not exchange.started:
                await reply(exchange, 409, {"code": "operation_interrupted", "message": str(error)})

    # ---- its calls

    async def _answer_start(self, exchange: Exchange, owner: str) -> None:
        await self.touched(owner)
        await exchange.reply(204)

    async def _answer_running(self, exchange: Exchange, owner: str) -> None:
        await reply(exchange, 200, {"running": self.current(owner) is not None})

    async def _answer_destroy(self, exchange: Exchange, owner: str) -> None:
        for box in self._boxes.running():
            if box.owner == owner:
                await self._end(box)
        await exchange.reply(204)

    async def _answer_lifetime(self, exchange: Exchange, owner: str) -> None:
        box = self.current(owner)
        if box is not None:
            left = float(_parsed(exchange)["ends_at"]) - time.time()  # the Worker has another clock
            box.move_end(self._clock.now() + left)
        await exchange.reply(204)

    async def _answer_file(self, exchange: Exchange, owner: str) -> None:
        box, data = await self.touched(owner), exchange.request.body
        if len(data) > _MOST:
            raise ContainerError(502, "operation_interrupted", "the message is too large")
        assert box.machine is not None
        (path,) = parse_qs(urlsplit(exchange.request.target).query)["path"]
        try:
            await box.machine.sandbox.write_file(path, data)
        except OSError as error:
            raise ContainerError(500, "file_error", str(error)) from error
        await exchange.reply(204)

    async def _answer_port(self, exchange: Exchange, owner: str) -> None:
        passing = _ForPort(exchange)
        if self.current(owner) is None:  # a connection to a port starts none
            await passing.reply(502, b"the container does not run")
            return
        _, _, _, _, port, rest = exchange.request.target.split("/", 5)
        passing.request = replace(exchange.request, target=f"/{rest}")
        await self._edge.forward(passing, f"http://127.0.0.1:{int(port)}")

    async def _answer_exec(self, exchange: Exchange, owner: str) -> None:
        box, asked = await self.touched(owner), _parsed(exchange)
        assert box.machine is not None
        argv: list[str] = asked["argv"]
        self.commands.append(argv)
        fabricates = bool(self.fabricated) and any(self.fabricated in argument for argument in argv)
        if fabricates:
            self.fabricated = ""
        events = await self._programs.start(
            box.machine, argv, asked.get("env") or {}, float(asked["timeout"])
        )
        with self._streams.opened(), events:
            await exchange.start(200, {"content-type": "text/event-stream"})
            async with anyio.create_task_group() as tasks:

                async def leave_with_client() -> None:
                    await exchange.client_gone()
                    tasks.cancel_scope.cancel()

                tasks.start_soon(leave_with_client)
                async for event in events:
                    sent = encoded(event)
                    await self._streams.passing(len(sent))
                    await exchange.write(sent)
                    if fabricates and event[0] == "stdout":
                        await exchange.write(encoded(("exit", {"exit_code": 0})))
                        break
                await exchange.finish()
                tasks.cancel_scope.cancel()


class _ForPort(Passing):
    """Marks the answer where nothing listens: it has a status that no guest answers with."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange, Streams())

    async def reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Answer with a complete body."""
        marked = {"x-engine-error": "not_listening"} if status == 502 else {}
        await super().reply(status, body, {**(headers or {}), **marked})


def _parsed(exchange: Exchange) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(exchange.request.body)
    return found
