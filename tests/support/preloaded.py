"""Programs of the tests in processes of their own, which start in a hundredth of a second.

A server process imports what the ``agenthost`` command needs, once for each worker, and forks for every
program: that has its own pid, environment, working directory, stdin and signals as any other, and no second
of imports before it. What a start from nothing does is proved by the tests that run the installed command.

The server is this file, run as a script with the path of its socket.
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

_LARGEST = 1 << 20  # bytes of one request
_READ = 1 << 16
_PRELOADED = (
    *("agenthost.cli.app", "agenthost.cli.attach", "agenthost.cli.logs", "agenthost.cli.ps"),
    *("agenthost.cli.run", "agenthost.cli.stop", "agenthost.cli.reap", "agenthost.cli.providers"),
    *("agenthost.cli.config_check", "agenthost.cli.doctor", "agenthost.cli.emulate", "agenthost.cli.bake"),
    *("agenthost.agent.life", "agenthost.agent.configured", "agenthost.providers.local.provider"),
    *("agenthost.providers.local.local_unisolated", "agenthost.guest.on_sandbox", "agenthost.testing"),
    *("agenthost.files.transfer", "agenthost.guest.client", "agenthost.agent.model_proxy", "httpx"),
    *("claude_agent_sdk", "rich.console", "rich.table", "rich.progress", "anyio._backends._asyncio"),
)


class Reader(anyio.abc.ByteReceiveStream):
    """The end of a pipe that a program writes to, as anyio's processes have it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.set_blocking(fd, False)

    async def receive(self, max_bytes: int = _READ) -> bytes:
        """Return what comes next. EndOfStream when the program has closed its end."""
        await anyio.wait_readable(self._fd)
        data = os.read(self._fd, max_bytes)
        if not data:
            raise anyio.EndOfStream
        return data

    async def aclose(self) -> None:
        """Close it. Idempotent."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close it. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class Writer(anyio.abc.ByteSendStream):
    """The end of a pipe that a program reads from."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.set_blocking(fd, False)

    async def send(self, item: bytes) -> None:
        """Write all of it. BrokenResourceError when nobody will read it."""
        view = memoryview(item)
        while view:
            await anyio.wait_writable(self._fd)
            try:
                view = view[os.write(self._fd, view) :]
            except BrokenPipeError:
                raise anyio.BrokenResourceError from None

    async def aclose(self) -> None:
        """Close it. Idempotent."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close it. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


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
        argv: ``agenthost`` and its arguments, or ``python``, the path of a script and its arguments.
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
                argv = [sys.executable, str(Path(__file__)), str(listener.fileno())]
                # Its end is the end of its stdin: it outlives no worker.
                self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])
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


# ---- in the server


def serve(listener: socket.socket) -> None:
    """Fork for each connection, and tell it the pid and the exit code, until stdin ends."""
    import importlib

    for name in _PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ, None)
    waiting.register(0, selectors.EVENT_READ, None)
    while True:
        for key, _ in waiting.select():
            if key.fileobj == 0:
                return
            if key.fileobj is listener:
                client = listener.accept()[0]
                pid = _start(client, waiting)
                waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (client, pid))
            else:
                client, pid = key.data
                waiting.unregister(key.fd)
                os.close(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(OSError), client:
                    client.send(str(code).encode())


def _start(client: socket.socket, waiting: selectors.BaseSelector) -> int:
    fds = array.array("i")
    data, ancillary, _, _ = client.recvmsg(_LARGEST, socket.CMSG_SPACE(3 * fds.itemsize))
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content)
    pid = os.fork()
    if pid == 0:
        for key in waiting.get_map().values():
            for inner in (key.fileobj, key.data and key.data[0]):
                if isinstance(inner, socket.socket):
                    inner.close()
                elif isinstance(inner, int) and inner != 0:
                    os.close(inner)
        waiting.close()
        client.close()
        _become(json.loads(data), list(fds))
    for fd in fds:
        os.close(fd)
    client.send(str(pid).encode())
    return pid


def _become(request: dict[str, Any], fds: list[int]) -> NoReturn:
    """Be the program that was asked for."""
    for target, fd in enumerate(fds):
        os.dup2(fd, target)
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    gc.unfreeze()
    name, *arguments = request["argv"]
    code = 1
    try:
        if name == "agenthost":
            from agenthost.cli import main

            sys.argv = [name, *arguments]
            main()
        else:
            sys.argv = arguments
            sys.path[0] = str(Path(arguments[0]).parent)
            runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    # What the interpreter does at its end: threads, exit handlers, buffers.
    sys.exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
