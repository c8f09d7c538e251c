"""Containers that a test scripts: what the Worker's stub asks for, without a program that runs."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio

from agenthost.testing.loopback import ClientGoneError, Exchange, HttpRequest

Say = Callable[[str, bytes], Awaitable[None]]


@dataclass(frozen=True)
class Program:
    """A program that runs.

    Attributes:
        say: Sends an event: its kind, and its data.
    """

    argv: list[str]
    env: dict[str, str]
    say: Say


@dataclass
class ScriptedContainer:
    """One container: what was written into it."""

    marker: str = ""
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])


class ScriptedEngine:
    """All containers, as the engine of the emulator serves them.

    Attributes:
        containers: Those that run, by the id of their sandbox.
        calls: Every call, as ``exec ID``.
        starts: How many containers were started.
        starting: Set when a start has come; it is answered once ``may_start`` is set.
        refused: What a call is answered with instead, by its name: a status, and a code.
        program: What a program does. Returns its exit code; below zero, 0 is reported while it runs on; None,
            its connection is cut.
        says_bytes: Whether each byte of output is an event of its own.
        guest: What answers a request to the port of a guest; None is a port on which nothing listens.
    """

    def __init__(self) -> None:
        self.containers: dict[str, ScriptedContainer] = {}
        self.calls: list[str] = []
        self.ends: dict[str, float] = {}
        self.starts = 0
        self.starting, self.may_start = anyio.Event(), anyio.Event()
        self.may_start.set()
        self.refused: dict[str, tuple[int, str]] = {}
        self.program: Callable[[Program], Awaitable[int | None]] = _ends_well
        self.guest: Callable[[Exchange, str], Awaitable[None]] | None = None
        self.says_bytes = False
        self._loses = ""
        self._destroyed: dict[str, anyio.Event] = {}

    def lose(self, owner: str) -> None:
        """Have a container be gone, as after a crash."""
        del self.containers[owner]

    def replace(self, owner: str) -> None:
        """Have a container be an empty one, as after a rollout."""
        self.containers[owner] = ScriptedContainer()

    def replaces_at(self, call: str) -> None:
        """Have the container be lost just before this call comes, which starts an empty one then."""
        self._loses = call

    def destroyed(self, owner: str) -> anyio.Event:
        """Return the event that is set when a container is destroyed."""
        return self._destroyed.setdefault(owner, anyio.Event())

    def in_pieces(self, request: HttpRequest) -> bool:
        """Return whether the body of a request is taken while it comes."""
        return "/port/" in request.target

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request of the stub."""
        _, _, owner, *more = urlsplit(exchange.request.target).path.split("/")
        call = more[0] if more else "destroy"
        self.calls.append(f"{call} {owner}")
        if call in self.refused:
            status, code = self.refused[call]
            await exchange.reply(status, json.dumps({"code": code, "message": code}).encode())
            return
        await getattr(self, f"_answer_{call}")(exchange, owner)

    def _touched(self, call: str, owner: str) -> ScriptedContainer:
        if self._loses == call:
            self.lose(owner)
        if owner not in self.containers:
            self.starts += 1
            self.containers[owner] = ScriptedContainer()
        return self.containers[owner]

    async def _answer_start(self, exchange: Exchange, owner: str) -> None:
        self.starting.set()
        await self.may_start.wait()
        self._touched("start", owner)
        await exchange.reply(204)

    async def _answer_running(self, exchange: Exchange, owner: str) -> None:
        await exchange.reply(200, json.dumps({"running": owner in self.containers}).encode())

    async def _answer_lifetime(self, exchange: Exchange, owner: str) -> None:
        self.ends[owner] = json.loads(exchange.request.body)["ends_at"]
        await exchange.reply(204)

    async def _answer_destroy(self, exchange: Exchange, owner: str) -> None:
        self.containers.pop(owner, None)
        self.destroyed(owner).set()
        await exchange.reply(204)

    async def _answer_file(self, exchange: Exchange, owner: str) -> None:
        (path,) = parse_qs(urlsplit(exchange.request.target).query)["path"]
        self._touched("file", owner).files[path] = exchange.request.body
        await exchange.reply(204)

    async def _answer_port(self, exchange: Exchange, owner: str) -> None:
        container = self._touched("port", owner)
        _, _, _, _, _, rest = exchange.request.target.split("/", 5)
        if self.guest is None or not container.marker:
            async for _ in exchange.pieces():  # else the connection would be closed after the answer
                pass
            await exchange.reply(502, b"connection refused", {"x-engine-error": "not_listening"})
        else:
            await self.guest(exchange, f"/{rest}")

    async def _answer_exec(self, exchange: Exchange, owner: str) -> None:
        asked: dict[str, Any] = json.loads(exchange.request.body)
        container = self._touched("exec", owner)
        await exchange.start(200, {"content-type": "text/event-stream"})

        async def say(kind: str, data: bytes) -> None:
            for piece in [data[at : at + 1] for at in range(len(data))] if self.says_bytes else [data]:
                await exchange.write(f"event: {kind}\ndata: {b64encode(piece).decode()}\n\n".encode())

        code = await self._run(container, asked["argv"], asked["env"], say)
        if code is None:
            raise ClientGoneError  # the connection is cut
        await exchange.write(f'event: exit\ndata: {{"exit_code": {code}}}\n\n'.encode())
        await exchange.finish()

    async def _run(
        self, container: ScriptedContainer, argv: list[str], env: dict[str, str], say: Say
    ) -> int | None:
        """Do what the Worker's shell does: write the marker, or run a program between two records."""
        _, _, _, _, marker, *rest = argv
        if not rest:
            container.marker = marker
            return 0
        record, *argv = rest
        if container.marker != marker:
            await say("stdout", f"\x1e{record} no\n".encode())
            return 1
        await say("stdout", f"\x1e{record} ok\n".encode())
        code: int | None = 0
        if argv[:2] == ["sh", "-c"] and argv[3] == "agenthost":
            _, _, _, _, beside, size, path = argv
            container.files[path] = container.files.pop(beside)
            assert len(container.files[path]) == int(size)
        elif argv != ["true"]:
            code = await self.program(Program(argv, env, say))
        if code is not None and code >= 0:
            await say("stdout", f"\x1e{record} {code}\n".encode())
        return None if code is None else max(code, 0)


async def _ends_well(_program: Program) -> int | None:
    return 0
