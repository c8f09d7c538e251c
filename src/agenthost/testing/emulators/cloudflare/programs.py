"""Programs in a container, as Cloudflare's inner server runs them: events, without input."""

from __future__ import annotations

import codecs
import json
import signal
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from agenthost.background import BackgroundTasks
from agenthost.errors import AgentHostError
from agenthost.sandbox import Process
from agenthost.testing.emulators.base.machines import Machine

Event = tuple[str, Any]  # stdout and stderr with bytes, exit and error with what their JSON is

_TIMED_OUT = 124
# A shell starts the program: one that does not exist is the exit code 127 with the shell's message.
_SHELL = ["bash", "-c", '"$@" </dev/null', "bash"]


def encoded(event: Event) -> bytes:
    """Return an event as it is sent."""
    kind, data = event
    text = b64encode(data).decode() if isinstance(data, bytes) else json.dumps(data)
    return f"event: {kind}\ndata: {text}\n\n".encode()


class Programs:
    """Starts programs. They run on, whether their events are received or not.

    Args:
        tasks: Where they are followed.
        splits: Whether a piece of output comes in two events.
    """

    def __init__(self, tasks: BackgroundTasks, *, splits: bool) -> None:
        self._tasks = tasks
        self._splits = splits

    async def start(
        self, machine: Machine, argv: Sequence[str], env: Mapping[str, str], timeout: float
    ) -> MemoryObjectReceiveStream[Event]:
        """Start one and return its events; the last one is ``exit`` or ``error``."""
        process: Process | None = None
        failure: Event | None = None
        try:
            process = await machine.start([*_SHELL, *argv], env=env)
        except OSError as error:  # arguments that are too long, for instance
            text = f"the command cannot be started: {error.strerror}"
            failure = ("error", {"error": text, "code": "exec_transport_error"})
        # Made when nothing is awaited any more: a request that is cut before leaves no open stream.
        sending, receiving = anyio.create_memory_object_stream[Event](1)
        if process is not None:
            self._tasks.start_soon(self._follow, process, sending, timeout)
        elif failure is not None:
            sending.send_nowait(failure)
            sending.close()
        return receiving

    async def _follow(self, process: Process, sending: MemoryObjectSendStream[Event], timeout: float) -> None:
        async with sending:
            try:
                last = await self._run(process, sending, timeout)
            except (AgentHostError, OSError):  # the machine has ended
                last = ("error", {"error": "Network connection lost", "code": "exec_transport_error"})
            await _tell(sending, last)

    async def _run(self, process: Process, sending: MemoryObjectSendStream[Event], timeout: float) -> Event:
        code = _TIMED_OUT
        with anyio.move_on_after(timeout) as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._pass_on, process.receive_stdout, "stdout", sending)
                await self._pass_on(process.receive_stderr, "stderr", sending)
            code = await process.wait()
        if scope.cancelled_caught:
            await process.signal(signal.SIGKILL)
            message = f"Command timed out after {timeout * 1000:g}ms"
            await _tell(sending, ("stderr", message.encode()))
        return ("exit", {"exit_code": code})

    async def _pass_on(
        self, receive: Callable[[], Awaitable[bytes]], kind: str, sending: MemoryObjectSendStream[Event]
    ) -> None:
        with suppress(AgentHostError, OSError):  # the machine has ended, as the exit code will tell
            async with aclosing(self._pieces(receive)) as pieces:
                async for piece in pieces:
                    await _tell(sending, (kind, piece))

    async def _pieces(self, receive: Callable[[], Awaitable[bytes]]) -> AsyncGenerator[bytes]:
        """Yield output as text: what is not UTF-8 is replaced."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while data := await receive():
            text = decoder.decode(data)
            cut = 1 if self._splits else 0
            for piece in (text[:cut], text[cut:]):
                if piece:
                    yield piece.encode()
        if rest := decoder.decode(b"", final=True):
            yield rest.encode()


async def _tell(sending: MemoryObjectSendStream[Event], event: Event) -> None:
    with suppress(anyio.BrokenResourceError):  # nothing receives any more: it is lost
        await sending.send(event)
