"""Sessions and their commands: output by lines in a log that is kept, input by lines without an end."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio

from agenthost.errors import AgentHostError
from agenthost.sandbox import Process
from agenthost.testing.emulators.daytona.api import Refusal

MARKS = {"stdout": b"\1\1\1", "stderr": b"\2\2\2"}
# The command is read by the shell itself: where it ends that shell, nothing is printed after it.
SHELL = 'eval "$1"; printf "\\n%s%s\\n" "$2" "$?"'


@dataclass(slots=True)
class Command:
    """One command. It runs on when its client has gone.

    Attributes:
        text: As it was asked for.
        process: The shell that reads it.
        log: What it printed: a stream, and lines.
        code: Its exit code, when one is known.
        has_ended: Whether its shell has.
        holds_blank: Whether an empty line of stdout waits for what follows: its own, or the shell's last one.
    """

    text: str
    process: Process
    echoes: bool
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    log: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    code: int | None = None
    has_ended: bool = False
    holds_blank: bool = False
    changed: anyio.Event = field(default_factory=anyio.Event)

    def as_json(self) -> dict[str, Any]:
        """Return it as Daytona describes it."""
        return {"id": self.id, "command": self.text, **({} if self.code is None else {"exitCode": self.code})}

    def logs_json(self) -> dict[str, str]:
        """Return all that it printed so far."""
        found = {"output": b"".join(data for _, data in self.log)}
        for stream in MARKS:
            found[stream] = b"".join(data for one, data in self.log if one == stream)
        return {name: data.decode(errors="replace") for name, data in found.items()}

    async def follow(self) -> None:
        """Take what it prints, and its end."""
        async with anyio.create_task_group() as readers:
            readers.start_soon(self._collect, "stdout", self.process.receive_stdout)
            readers.start_soon(self._collect, "stderr", self.process.receive_stderr)
        self.has_ended = True
        self._tell()

    async def events(self) -> AsyncGenerator[bytes]:
        """Yield all that it printed, marked, from the beginning, and what it prints until its exit code."""
        position = 0
        while True:
            changed = self.changed
            while position < len(self.log):
                stream, data = self.log[position]
                position += 1
                yield MARKS[stream] + data
            if self.code is not None:
                return
            await changed.wait()

    async def write(self, text: str) -> None:
        """Give it a line of input. Raises Refusal: it has ended."""
        if self.has_ended:
            raise Refusal(410, "command has already completed", "COMMAND_ALREADY_COMPLETED")
        line = text if text.endswith("\n") else f"{text}\n"
        if self.echoes:
            self._say("stdout", line.encode())
        with suppress(AgentHostError, OSError):
            await self.process.send_stdin(line.encode())

    async def _collect(self, stream: str, receive: Callable[[], Awaitable[bytes]]) -> None:
        rest, mark = b"", self.secret.encode()
        with suppress(AgentHostError):
            while data := await receive():
                *lines, rest = (rest + data.replace(b"\0", b"")).split(b"\n")
                for line in lines:
                    self._take(stream, line, mark)
        if stream == "stdout":
            self._say_blank()
        if rest:
            self._say(stream, rest + b"\n")

    def _take(self, stream: str, line: bytes, mark: bytes) -> None:
        if stream == "stdout":
            if line.startswith(mark):
                self.holds_blank = False  # the line break before the mark
                self.code = int(line.removeprefix(mark))
                self._tell()
                return
            self._say_blank()
            if not line:
                self.holds_blank = True
                return
        self._say(stream, line + b"\n")

    def _say_blank(self) -> None:
        if self.holds_blank:
            self.holds_blank = False
            self._say("stdout", b"\n")

    def _say(self, stream: str, data: bytes) -> None:
        self.log.append((stream, data))
        self._tell()

    def _tell(self) -> None:
        changed, self.changed = self.changed, anyio.Event()
        changed.set()


@dataclass(slots=True)
class Session:
    """One session: one command at a time.

    Attributes:
        commands: By their ids.
    """

    id: str
    commands: dict[str, Command] = field(default_factory=dict[str, Command])

    def command(self, command_id: str) -> Command:
        """Return a command. Raises Refusal."""
        if command_id not in self.commands:
            raise Refusal(404, "command not found", "PROCESS_NOT_FOUND")
        return self.commands[command_id]

    async def end(self) -> None:
        """End every command."""
        for command in self.commands.values():
            if not command.has_ended:
                with suppress(AgentHostError, OSError):
                    await command.process.signal(15)
                    await command.process.signal(9)
