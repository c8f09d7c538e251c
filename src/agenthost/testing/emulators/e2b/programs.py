"""The programs of one sandbox, as E2B's daemon runs them.

Nothing is kept of what a program prints while nobody listens. Every listener holds up all the others, and the
program. Its end is known for half a minute.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from agenthost.background import BackgroundTasks
from agenthost.errors import AgentHostError
from agenthost.sandbox import Process
from agenthost.testing.emulators.base.machines import Machine
from agenthost.testing.emulators.e2b.supervisor import EXIT, STDERR, STDOUT, Messages, command, end_event

_NAMES = {STDOUT: "stdout", STDERR: "stderr"}
_EARLY = 64  # pieces that a friendly emulator keeps for who comes late

Event = dict[str, Any]


@dataclass(slots=True)
class Program:
    """A program that was started by a client.

    Attributes:
        process: Its supervisor.
        pid: Its own number.
        config: As the client gave it.
        has_input: Its stdin was asked for and is not closed.
        is_draining: What it prints is still passed on. After a signal by the API it is not.
        stopped: Set when its end is told as soon as it has ended, whoever holds its output.
        exited: Set when it has ended.
        overdue: Set when its time was over.
        end: How it ended.
        first: Where the client that started it listens.
    """

    process: Process
    messages: Messages
    pid: int
    config: dict[str, Any]
    tag: str | None
    has_input: bool = True
    is_draining: bool = True
    stopped: anyio.Event = field(default_factory=anyio.Event)
    exited: anyio.Event = field(default_factory=anyio.Event)
    overdue: anyio.Event = field(default_factory=anyio.Event)
    status: int | None = None
    end: Event | None = None
    first: MemoryObjectSendStream[Event] | None = None
    listeners: list[MemoryObjectSendStream[Event]] = field(
        default_factory=list[MemoryObjectSendStream[Event]]
    )
    early: list[Event] = field(default_factory=list[Event])


class Programs:
    """All of one sandbox.

    Args:
        machine: Where they run.
        env: The environment of every one, but for PATH.
        tasks: They outlive the request that starts them.
        end_kept: Seconds that the end of one is known.
        friendly: Output waits for its first listener and comes in whole pieces.
    """

    def __init__(
        self,
        machine: Machine,
        tasks: BackgroundTasks,
        *,
        env: Mapping[str, str],
        end_kept: float,
        friendly: bool,
    ) -> None:
        self._machine = machine
        self._env = env
        self._tasks = tasks
        self._end_kept = end_kept
        self._friendly = friendly
        self.running: dict[int, Program] = {}

    async def start(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        stdin: bool,
        tag: str | None,
        limit: float | None,
        config: dict[str, Any],
    ) -> tuple[Program, MemoryObjectReceiveStream[Event]]:
        """Start one; returns it with the events for its first listener.

        Args:
            argv: The program.
            cwd: Absolute path.
            env: Added to the environment.
            stdin: Otherwise it finds its input ended.
            tag: Another name for it.
            limit: Seconds until it is killed, whoever listens.
            config: What is listed of it.
        """
        line = command(argv, cwd=cwd, env={**self._env, **env}, stdin=stdin)
        program: Program | None = None
        with anyio.CancelScope(shield=True):  # it is started, whoever has gone meanwhile
            program = await self._spawn(line, config, tag)
        assert program is not None
        program.has_input = stdin
        self._tasks.start_soon(self._follow, program, limit)  # fails where the sandbox has ended meanwhile
        events = self._subscribe(program)
        program.first = program.listeners[0]
        return program, events

    async def _spawn(self, argv: Sequence[str], config: dict[str, Any], tag: str | None) -> Program:
        process = await self._machine.start(argv)
        messages = Messages(process)
        pid = await messages.started()
        program = self.running[pid] = Program(process, messages, pid, config, tag)
        return program

    def listen(self, program: Program) -> MemoryObjectReceiveStream[Event]:
        """Return the events from now on; of one that has ended, its end."""
        return self._subscribe(program)

    async def kill(self, program: Program, signum: int) -> None:
        """Signal the one process, not its group; what it prints from now on is lost."""
        program.is_draining = self._friendly
        program.stopped.set()
        with contextlib.suppress(AgentHostError, OSError):
            await self._machine.sandbox.exec(["kill", f"-{signum}", str(program.pid)])

    def disconnect(self) -> None:
        """Cut every listener off; the programs run on."""
        for program in self.running.values():
            for listener in program.listeners:
                listener.close()
            program.listeners.clear()

    def _subscribe(self, program: Program) -> MemoryObjectReceiveStream[Event]:
        sending, receiving = anyio.create_memory_object_stream[Event](_EARLY + 1 if program.early else 1)
        for event in program.early:
            sending.send_nowait(event)
        program.early.clear()
        if program.end is None:
            program.listeners.append(sending)
        else:
            sending.send_nowait(program.end)
            sending.close()
        return receiving

    async def _follow(self, program: Program, limit: float | None) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, program, tasks.cancel_scope)
                if limit is not None:
                    tasks.start_soon(self._limit, program, limit)
                await program.stopped.wait()
                await program.exited.wait()
                tasks.cancel_scope.cancel()
            if program.status is not None:
                program.end = {"end": end_event(program.status)}
                await self._tell(program, program.end)
        finally:
            for listener in program.listeners:
                listener.close()
            program.listeners.clear()
        if program.end is not None:
            with contextlib.suppress(AgentHostError, OSError):
                await program.process.signal(
                    signal.SIGKILL
                )  # who still holds the output has nobody to read it
            await anyio.sleep(self._end_kept)
        self.running.pop(program.pid, None)

    async def _limit(self, program: Program, seconds: float) -> None:
        await anyio.sleep(seconds)
        program.overdue.set()
        if program.first in program.listeners:
            program.listeners.remove(program.first)
            program.first.close()
        await self.kill(program, signal.SIGKILL)

    async def _read(self, program: Program, scope: anyio.CancelScope) -> None:
        with contextlib.suppress(AgentHostError):  # the machine has ended, and every connection to it with it
            while (message := await program.messages.next()) is not None:
                kind, data = message
                if kind == EXIT:
                    program.status = int(data)
                    program.exited.set()
                    continue
                for piece in self._pieces(data):
                    if program.is_draining:
                        await self._tell(program, {"data": {_NAMES[kind]: b64encode(piece).decode()}})
        scope.cancel()

    def _pieces(self, data: bytes) -> list[bytes]:
        # Anywhere but at the ends of lines.
        cuts = [0, *([] if self._friendly else [1]), len(data)]
        return [data[begin:end] for begin, end in itertools.pairwise(cuts) if begin < end]

    async def _tell(self, program: Program, event: Event) -> None:
        for listener in tuple(program.listeners):
            try:
                await listener.send(event)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                listener.close()
                if listener in program.listeners:
                    program.listeners.remove(listener)
        if not program.listeners and self._friendly and event is not program.end:
            program.early = [*program.early[1 - _EARLY :], event]
