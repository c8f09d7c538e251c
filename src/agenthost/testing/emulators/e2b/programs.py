"""The programs of one sandbox, as E2B's daemon runs them.

Nothing is kept of what a program prints while nobody listens. Every listener holds up all the others, and the
program. Its end is known for half a minute.
"""

from __future__ import annotations

import contextlib
import itertools
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from agenthost.background import BackgroundTasks
from agenthost.errors import AgentHostError
from agenthost.sandbox import Process
from agenthost.testing.emulators.base.machines import Machine

CHUNK = 32 * 1024  # bytes that come in one event at most
_EARLY = 64  # pieces that a friendly emulator keeps for who comes late

Event = dict[str, Any]


@dataclass(slots=True)
class Program:
    """A program that was started by a client.

    Attributes:
        config: As the client gave it.
        has_input: Its stdin was asked for and is not closed.
        is_draining: What it prints is still passed on. After a signal by the API it is not.
        end: How it ended.
    """

    process: Process
    config: dict[str, Any]
    tag: str | None
    has_input: bool = True
    is_draining: bool = True
    end: Event | None = None
    listeners: list[MemoryObjectSendStream[Event]] = field(
        default_factory=list[MemoryObjectSendStream[Event]]
    )
    early: list[Event] = field(default_factory=list[Event])


class Programs:
    """All of one sandbox.

    Args:
        machine: Where they run.
        tasks: They outlive the request that starts them.
        end_kept: Seconds that the end of one is known.
        friendly: Output waits for its first listener and comes in whole pieces.
    """

    def __init__(self, machine: Machine, tasks: BackgroundTasks, *, end_kept: float, friendly: bool) -> None:
        self._machine = machine
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
        process = await self._machine.start(argv, cwd=cwd, env=env)
        if not stdin:
            await process.close_stdin()
        program = self.running[process.pid] = Program(process, config, tag, has_input=stdin)
        events = self._subscribe(program)
        self._tasks.start_soon(self._follow, program, limit)
        return program, events

    def listen(self, program: Program) -> MemoryObjectReceiveStream[Event]:
        """Return the events from now on; of one that has ended, its end."""
        return self._subscribe(program)

    async def kill(self, program: Program, signum: int) -> None:
        """Signal the one process, not its group; what it prints from now on is lost."""
        program.is_draining = self._friendly
        with contextlib.suppress(AgentHostError, OSError):
            await self._machine.sandbox.exec(["kill", f"-{signum}", str(program.process.pid)])

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
            await self._see_end(program, limit)
        except AgentHostError:
            pass  # the machine has ended, and every connection to it with it
        finally:
            for listener in program.listeners:
                listener.close()
            program.listeners.clear()
        if program.end is not None:
            await anyio.sleep(self._end_kept)
        self.running.pop(program.process.pid, None)

    async def _see_end(self, program: Program, limit: float | None) -> None:
        code: int | None = None
        with anyio.move_on_after(limit):
            code = await self._run(program)
        if code is None:
            await self.kill(program, 9)
            code = await program.process.wait()
        # What a signal ended is -1 in Go.
        exited = code < 128
        told = {"exitCode": code if exited else -1, "exited": exited, "status": f"exit status {code}"}
        program.end = {"end": told}
        await self._tell(program, program.end)

    async def _run(self, program: Program) -> int:
        failures: list[AgentHostError] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._copy, program, program.process.receive_stdout, "stdout", failures)
            tasks.start_soon(self._copy, program, program.process.receive_stderr, "stderr", failures)
        if failures:
            raise failures[0]
        return await program.process.wait()

    async def _copy(
        self,
        program: Program,
        receive: Callable[[], Awaitable[bytes]],
        name: str,
        failures: list[AgentHostError],
    ) -> None:
        try:
            while data := await receive():
                for piece in self._pieces(data):
                    if program.is_draining:
                        await self._tell(program, {"data": {name: b64encode(piece).decode()}})
        except AgentHostError as error:  # raised, the group would wrap it
            failures.append(error)

    def _pieces(self, data: bytes) -> list[bytes]:
        # Anywhere but at the ends of lines.
        cuts = [0, *([] if self._friendly else [1]), *range(CHUNK, len(data), CHUNK), len(data)]
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
