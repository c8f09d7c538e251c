"""The programs of a session: their logs, which are text and are kept whole, and their input by offset."""

from __future__ import annotations

import codecs
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio

from agenthost.errors import AgentHostError
from agenthost.sandbox import Process
from agenthost.testing.emulators.vercel.api import Refusal

_AHEAD = 256 * 1024  # bytes that wait for a program to read them
_PATIENCE = 1.0  # seconds that a call waits for a program to read


@dataclass(slots=True)
class Program:
    """One program. It runs on when its client has gone.

    Attributes:
        about: What is told of it.
        process: What runs; None for one that is root.
        log: What it printed: a stream and text.
        code: Its exit code, when it has ended.
        accepted: Bytes of input that it, or its pipe, has taken.
        has_input: Whether its stdin was asked for and is open.
    """

    about: Mapping[str, Any]
    process: Process | None
    has_input: bool
    log: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    code: int | None = None
    accepted: int = 0
    changed: anyio.Event = field(default_factory=anyio.Event)
    _waiting: bytearray = field(default_factory=bytearray)
    _drained: anyio.Event = field(default_factory=anyio.Event)
    _writing: anyio.Lock = field(default_factory=anyio.Lock)

    def as_json(self) -> dict[str, Any]:
        """Return it as Vercel describes it."""
        return {**self.about, "exitCode": self.code}

    def say(self, stream: str, text: str) -> None:
        """Keep what it printed."""
        self.log.append((stream, text))
        self.tell()

    def end(self, code: int) -> None:
        """Keep how it ended."""
        self.code, self.has_input = code, False
        self.tell()

    def tell(self) -> None:
        """Wake whatever waits for news of it."""
        changed, self.changed = self.changed, anyio.Event()
        changed.set()

    async def follow(self) -> None:
        """Take what it prints, and its end."""
        assert self.process is not None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._feed)
            async with anyio.create_task_group() as readers:
                readers.start_soon(self._collect, "stdout", self.process.receive_stdout)
                readers.start_soon(self._collect, "stderr", self.process.receive_stderr)
            code = 137
            with suppress(AgentHostError):  # the machine has ended
                code = await self.process.wait()
            self.end(code)
            tasks.cancel_scope.cancel()

    async def events(self) -> AsyncGenerator[tuple[str, str]]:
        """Yield all that it printed, from the beginning, and what it prints until it ends."""
        position = 0
        while True:
            changed = self.changed
            while position < len(self.log):
                position += 1
                yield self.log[position - 1]
            if self.code is not None:
                return
            await changed.wait()

    async def ended(self) -> int:
        """Return its exit code, when it has ended."""
        while self.code is None:
            await self.changed.wait()
        return self.code

    async def write(self, data: bytes, offset: int | None, *, close: bool) -> int:
        """Take input from an offset on, and return how much there was of it so far.

        Raises:
            Refusal: It has ended, has no stdin, or does not read.
        """
        async with self._writing:
            if self.code is not None:
                raise Refusal(404, "command_not_found_or_exited", "Command not found or already exited.")
            if not self.has_input:
                raise Refusal(400, "command_stdin_unavailable", "The stdin of the command is not available.")
            if offset is not None:
                if offset > self.accepted:
                    raise Refusal(400, "bad_request", f"`offset` is {offset}, {self.accepted} was expected")
                data = data[self.accepted - offset :]
            while data:
                room = _AHEAD - len(self._waiting)
                if room <= 0:
                    with anyio.move_on_after(_PATIENCE) as scope:
                        await self._drained.wait()
                    if scope.cancelled_caught:
                        message = "The command does not read its stdin."
                        raise Refusal(504, "command_stdin_timeout", message, bytesWritten=self.accepted)
                    continue
                self._waiting += data[:room]
                self.accepted += len(data[:room])
                data = data[room:]
                self.tell()
            if close and self.process is not None:
                self.has_input = False
                self.tell()
            return self.accepted

    async def kill(self, number: int) -> None:
        """Send a signal."""
        if self.process is not None and self.code is None:
            with suppress(AgentHostError, OSError):
                await self.process.signal(signal.Signals(number))

    async def _feed(self) -> None:
        assert self.process is not None
        with suppress(AgentHostError, OSError):
            while True:
                changed = self.changed
                if self._waiting:
                    data, self._waiting = bytes(self._waiting[:8192]), self._waiting[8192:]
                    await self.process.send_stdin(data)
                    drained, self._drained = self._drained, anyio.Event()
                    drained.set()
                elif not self.has_input:
                    await self.process.close_stdin()
                    return
                else:
                    await changed.wait()

    async def _collect(self, stream: str, receive: Callable[[], Awaitable[bytes]]) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with suppress(AgentHostError):
            while data := await receive():
                if text := decoder.decode(data):
                    self.say(stream, text)
        if text := decoder.decode(b"", final=True):
            self.say(stream, text)
