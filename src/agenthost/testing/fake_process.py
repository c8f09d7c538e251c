"""A program that runs in a FakeSandbox: a function of the test, with streams on both sides."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from agenthost.background import BackgroundTasks
from agenthost.link.arguments import check_bytes
from agenthost.testing.fake_clock import FakeClock
from agenthost.testing.fake_files import FakeFiles
from agenthost.testing.fake_programs import ProgramFunction

_PIPE = 64 * 1024  # bytes that wait for a program to read them


@dataclass(slots=True)
class FakeRun:
    """What was run.

    Attributes:
        argv: Its arguments.
        cwd: Its working directory.
        env: What it was given besides the sandbox's environment.
        user: Who it was to run as.
        exit_code: None while it runs, and when the sandbox ended under it.
        told: What it was sent, and what it printed to stdout and stderr, so far.
    """

    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    user: str | None = None
    exit_code: int | None = None
    told: tuple[bytearray, bytearray, bytearray] = field(
        default_factory=lambda: (bytearray(), bytearray(), bytearray()), repr=False
    )

    @property
    def stdin(self) -> bytes:
        """What it was sent."""
        return bytes(self.told[0])

    @property
    def stdout(self) -> bytes:
        """What it printed."""
        return bytes(self.told[1])

    @property
    def stderr(self) -> bytes:
        """What it printed to stderr."""
        return bytes(self.told[2])


class _Stream:
    """Bytes on their way, first in, first out."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._data = bytearray()
        self._changed = anyio.Event()
        self.ended = False

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def end(self) -> None:
        self.ended = True
        self._tell()

    def fill(self, data: bytes) -> None:
        """Hold all there will ever be."""
        self._data += data
        self.ended = True

    async def put(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        left = memoryview(data)
        while left and not self.ended:
            room = len(left) if self._most == math.inf else int(self._most) - len(self._data)
            if room <= 0:
                await self._changed.wait()
                continue
            self._data += left[:room]
            left = left[room:]
            self._tell()

    async def take(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        while not self._data and not self.ended:
            await self._changed.wait()
        data = bytes(self._data)
        self._data.clear()
        self._tell()
        return data


class FakeProcess:
    """The side of the caller: a ``Process``."""

    def __init__(self, run: FakeRun, pid: int, stdin: bytes | None = None) -> None:
        """Make it. With ``stdin`` that is all it will read, else what the caller sends."""
        self.run = run
        self.stdin = _Stream(_PIPE)
        if stdin is not None:
            run.told[0].extend(stdin)
            self.stdin.fill(stdin)
        self.stdout = _Stream(math.inf)
        self.stderr = _Stream(math.inf)
        self.over = anyio.Event()
        self.scope = anyio.CancelScope()
        self.failure: BaseException | None = None  # of the test's own function
        self._pid = pid
        self._closed = False
        self._killed = 9
        self._gone: BaseException | None = None

    @property
    def pid(self) -> int:
        """A number that no other program of the sandbox has."""
        return self._pid

    async def receive_stdout(self) -> bytes:
        """Return the next bytes; ``b""`` at the end."""
        return self._checked(await self.stdout.take())

    async def receive_stderr(self) -> bytes:
        """Return the next bytes of stderr; ``b""`` at the end."""
        return self._checked(await self.stderr.take())

    async def send_stdin(self, data: bytes) -> None:
        """Write bytes. Waits while more than 64 KiB were not read. BrokenPipeError when it has ended."""
        check_bytes("data", data)
        self._raise_gone()
        if self._closed:
            raise ValueError("stdin has ended")
        self.run.told[0].extend(data)
        await self.stdin.put(bytes(data))
        self._raise_gone()
        if self.over.is_set():
            raise BrokenPipeError(32, "Broken pipe")

    async def close_stdin(self) -> None:
        """End stdin. Idempotent."""
        self._closed = True
        self.stdin.end()
        await anyio.lowlevel.checkpoint()

    async def signal(self, signum: int) -> None:
        """End the program as a signal does; 0 asks only whether it is there. No error when it has ended."""
        self._raise_gone()
        await anyio.lowlevel.checkpoint()
        if signum and not self.over.is_set():
            self._killed = int(signum)
            self.scope.cancel()

    async def wait(self) -> int:
        """Return the exit code."""
        await self.over.wait()
        self._raise_gone()
        await anyio.lowlevel.checkpoint()
        assert self.run.exit_code is not None
        return self.run.exit_code

    def end_with_sandbox(self, error: BaseException) -> None:
        """The sandbox has ended: whoever waits for this program hears of it."""
        if not self.over.is_set():
            self._gone = error
            self.scope.cancel()

    def _checked(self, data: bytes) -> bytes:
        if not data:
            self._raise_gone()
        return data

    def _raise_gone(self) -> None:
        if self._gone is not None:
            raise self._gone

    async def play(self, function: ProgramFunction, view: ProgramView) -> None:
        """Run the test's function to its end."""
        code: int | None = None
        try:
            with self.scope:
                code = await function(view) or 0
        except Exception as error:  # noqa: BLE001 - told by whoever leaves the block
            self.failure = error
            code = 1
        finally:
            if self._gone is None:
                self.run.exit_code = 128 + self._killed if code is None else code
            for stream in (self.stdin, self.stdout, self.stderr):
                stream.end()
            self.over.set()


class ProgramView:
    """The side of the program: what a function of the test is called with.

    Attributes:
        argv: Its arguments.
        env: Its environment.
        cwd: Its working directory.
        files: The sandbox's files.
    """

    def __init__(
        self,
        process: FakeProcess,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        files: FakeFiles,
        clock: FakeClock,
    ) -> None:
        self.argv = tuple(argv)
        self.env = dict(env)
        self.cwd = cwd
        self.files = files
        self._process = process
        self._clock = clock
        self._line = b""

    async def read(self) -> bytes:
        """Return the next bytes of stdin; ``b""`` when it has ended."""
        if self._line:
            data, self._line = self._line, b""
            return data
        return await self._process.stdin.take()

    async def read_line(self) -> bytes:
        """Return the next line of stdin with its end; the rest, or ``b""``, when stdin has ended."""
        while b"\n" not in self._line:
            data = await self._process.stdin.take()
            if not data:
                break
            self._line += data
        line, newline, self._line = self._line.partition(b"\n")
        return line + newline

    async def read_all(self) -> bytes:
        """Return stdin to its end."""
        parts: list[bytes] = []
        while data := await self.read():
            parts.append(data)
        return b"".join(parts)

    async def write(self, data: bytes) -> None:
        """Print to stdout."""
        self._process.run.told[1].extend(data)
        await self._process.stdout.put(data)

    async def write_error(self, data: bytes) -> None:
        """Print to stderr."""
        self._process.run.told[2].extend(data)
        await self._process.stderr.put(data)

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass; ``math.inf`` is for ever."""
        await self._clock.sleep(seconds)


@asynccontextmanager
async def playing(process: FakeProcess, function: ProgramFunction, view: ProgramView) -> AsyncGenerator[None]:
    """Run a program while the block is open; leaving it kills the program."""
    async with BackgroundTasks() as tasks:
        tasks.start_soon(process.play, function, view)
        try:
            yield
        finally:
            process.scope.cancel()
    if process.failure is not None:
        raise process.failure
