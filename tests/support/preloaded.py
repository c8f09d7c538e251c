"""Programs of the tests in processes of their own, which start in a hundredth of a second.

A server process imports what the ``agenthost`` command needs, once for each worker, and forks for every
program: that has its own pid, environment, working directory, stdin and signals as any other, and no second
of imports before it. What a start from nothing does is proved by the tests that run the installed command.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from support import processes

_READ = 1 << 16
_SERVER = Path(__file__).with_name("fork_server.py")


class _PipeEnd:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.set_blocking(fd, False)

    async def aclose(self) -> None:
        """Close it. Idempotent."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close it. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class Reader(_PipeEnd, anyio.abc.ByteReceiveStream):
    """The end of a pipe that a program writes to, as anyio's processes have it."""

    async def receive(self, max_bytes: int = _READ) -> bytes:
        """Return what comes next. EndOfStream when the program has closed its end."""
        await anyio.wait_readable(self._fd)
        data = os.read(self._fd, max_bytes)
        if not data:
            raise anyio.EndOfStream
        return data


class Writer(_PipeEnd, anyio.abc.ByteSendStream):
    """The end of a pipe that a program reads from."""

    async def send(self, item: bytes) -> None:
        """Write all of it. BrokenResourceError when nobody will read it."""
        view = memoryview(item)
        while view:
            await anyio.wait_writable(self._fd)
            try:
                view = view[os.write(self._fd, view) :]
            except BrokenPipeError:
                raise anyio.BrokenResourceError from None


class Program:
    """A running program, with the names of ``anyio.abc.Process``."""

    def __init__(
        self, pid: int, end: anyio.abc.UNIXSocketStream, stdin: Writer | None, stdout: Reader, stderr: Reader
    ) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._end = end
        self._lines = BufferedByteReceiveStream(stdout)

    async def line(self) -> str:
        """Return the next line of the program's output; raise IncompleteRead at its end."""
        return (await self._lines.receive_until(b"\n", 1 << 20)).decode()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Return its exit code; -N for signal N."""
        if self.returncode is None:
            self.returncode = int((await self._end.receive()).decode())
        return self.returncode


@asynccontextmanager
async def run_preloaded(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | os.PathLike[str] | None = None,
    stdin: int | None = subprocess.PIPE,
    stderr: int | None = subprocess.PIPE,
) -> AsyncGenerator[Program]:
    """Run a program; leaving the block waits for its end, or kills it where the block raised.

    Args:
        argv: ``agenthost`` and its arguments, or ``python``, then the path of a script or ``-c`` and a text,
            and its arguments.
        env: Its whole environment.
        cwd: Its working directory.
        stdin: A file of it, or PIPE.
        stderr: PIPE, or None: this process's own.
    """
    theirs, ours = _pipes(stdin, stderr)
    reading = {1: Reader(ours[1]), 2: Reader(ours[2] if 2 in ours else os.open(os.devnull, os.O_RDONLY))}
    writing = Writer(ours[0]) if 0 in ours else None
    try:
        async with await anyio.connect_unix(_server.address()) as end:
            request = {"argv": list(argv), "env": dict(env), "cwd": os.fspath(cwd or os.getcwd())}
            await end.send_fds(json.dumps(request).encode(), [theirs[0], theirs[1], theirs[2]])
            for fd in set(theirs.values()) - {stdin, 2}:
                os.close(fd)
            theirs.clear()
            program = Program(int((await end.receive()).decode()), end, writing, reading[1], reading[2])
            try:
                yield program
            except BaseException:
                program.kill()
                raise
            finally:
                with anyio.CancelScope(shield=True):
                    if writing is not None:
                        writing.close()
                    await program.wait()
    finally:
        for stream in (writing, *reading.values()):
            if stream is not None:
                stream.close()
        for fd in set(theirs.values()) - {stdin, 2}:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Done:
    """A program that has ended."""

    exit_code: int
    stdout: str
    stderr: str


async def run_to_end(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stdin: bytes = b"",
) -> Done:
    """Run a program to its end, see ``run_preloaded``; in this process's environment unless given one."""
    printed: dict[str, bytes] = {}

    async def read(name: str, reader: Reader) -> None:
        printed[name] = b"".join([chunk async for chunk in reader])

    async with run_preloaded(argv, env=dict(os.environ) if env is None else env, cwd=cwd) as program:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, "stdout", program.stdout)
            tasks.start_soon(read, "stderr", program.stderr)
            assert program.stdin is not None
            with contextlib.suppress(anyio.BrokenResourceError):
                await program.stdin.send(stdin)
            program.stdin.close()
        code = await program.wait()
    return Done(code, printed["stdout"].decode(errors="replace"), printed["stderr"].decode(errors="replace"))


def _pipes(stdin: int | None, stderr: int | None) -> tuple[dict[int, int], dict[int, int]]:
    theirs: dict[int, int] = {2: 2}
    ours: dict[int, int] = {}
    if stdin in (None, subprocess.PIPE):
        theirs[0], ours[0] = os.pipe()
    else:
        theirs[0] = stdin
    ours[1], theirs[1] = os.pipe()
    if stderr is not None:
        ours[2], theirs[2] = os.pipe()
    return theirs, ours


class _Server:
    """The server of this worker, started when the first program is asked for."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._path = ""

    def address(self) -> str:
        """Return where it listens."""
        if self._process is None:
            self._path = os.path.join(tempfile.mkdtemp(prefix="pre-"), "socket")
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(self._path)
                listener.listen(64)
                argv = [sys.executable, str(_SERVER), str(listener.fileno())]
                # Its end is the end of its stdin: it outlives no worker.
                self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])
                processes.OWN.add(self._process.pid)
        return self._path

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            shutil.rmtree(os.path.dirname(self._path))
            self._process = None


_server = _Server()


@pytest.fixture(scope="session", autouse=True)
def no_server_is_left(leaves_nothing_behind: object) -> Iterator[None]:
    """End the server before what is left is looked for."""
    del leaves_nothing_behind
    yield
    _server.close()
