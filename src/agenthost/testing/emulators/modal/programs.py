"""A program that was started in a sandbox: its streams by offset, and its end. Nothing kills it but time."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio

from agenthost.errors import AgentHostError
from agenthost.sandbox import Process
from agenthost.testing.emulators.modal.output import Output
from agenthost.testing.emulators.modal.wire import refuse

_LATE = 1.0  # seconds


class Program:
    """One exec. It runs on when whoever started it has gone.

    Attributes:
        stdout, stderr: What it prints.
        taken: Bytes of stdin that were accepted.
        closed: Whether stdin has ended.
        code: Its exit code, when it has ended.
        ended: Set then.
    """

    def __init__(
        self, process: Process, *, stdout: Output | None = None, stderr: Output | None = None
    ) -> None:
        self.stdout = stdout or Output()
        self.stderr = stderr or Output()
        self.taken = 0
        self.closed = False
        self.code: int | None = None
        self.ended = anyio.Event()
        self._process = process
        self._writing = anyio.Lock()

    async def follow(self, timeout: float | None) -> None:
        """Take what it prints, and its end. After ``timeout`` it is killed: stdout ends without a word."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._collect, self.stdout, self._process.receive_stdout)
                tasks.start_soon(self._collect, self.stderr, self._process.receive_stderr)
                await self._wait(timeout)
                self.ended.set()
        finally:
            self.stdout.end()
            self.stderr.end()
            self.ended.set()

    async def _wait(self, timeout: float | None) -> None:
        with suppress(AgentHostError):  # the machine has ended
            # Its client's clock began before, and is over before.
            with anyio.move_on_after(None if timeout is None else timeout + _LATE) as scope:
                self.code = await self._process.wait()
            if scope.cancelled_caught:
                await self._process.signal(signal.SIGKILL)
                self.code = await self._process.wait()

    async def write(self, offset: int, data: bytes, *, eof: bool) -> None:
        """Write to stdin at an offset: what was accepted already is no news, a gap is refused."""
        async with self._writing:
            if offset > self.taken:
                refuse("FAILED_PRECONDITION", f"stdin offset {offset}, expected {self.taken}")
            data = data[self.taken - offset :]
            if data and (self.closed or self.code is not None):
                refuse("FAILED_PRECONDITION", "stdin is closed")
            try:
                if data:
                    # What was begun is finished, whether the client waits for it or not.
                    with anyio.CancelScope(shield=True):
                        await self._process.send_stdin(data)
                    self.taken += len(data)
                if eof and not self.closed:
                    self.closed = True
                    await self._process.close_stdin()
            except (OSError, AgentHostError):
                refuse("FAILED_PRECONDITION", "stdin was closed by the program")

    async def _collect(self, output: Output, receive: Callable[[], Awaitable[bytes]]) -> None:
        with suppress(AgentHostError):
            await output.collect(receive)


def is_too_long(argv: Sequence[str]) -> bool:
    """Tell whether a command is longer than Modal takes."""
    return sum(len(one) for one in argv) > 65536
