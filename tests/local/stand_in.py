"""A guest that runs whatever Python a test sends it, in a local sandbox with the real profile and keeper.

Attacks on the isolation are easier to write with it than through the wire.
"""

from __future__ import annotations

import os
import select
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
from support.waiting import until_true

from agenthost.link.carriers.socket import connect_unix
from agenthost.providers.local.backend import LocalBackend
from agenthost.providers.local.engine import Engine
from agenthost.providers.local.isolated import Host, find_host, launch_isolated
from agenthost.providers.local.keeper.handles import open_handle
from agenthost.providers.local.keeper.numbers import LISTEN_FD
from agenthost.sandbox import Boot
from agenthost.spec import SandboxSpec, generate_name

# Each connection brings a length, a newline and a program; it gets what the program prints, then the end.
GUEST = rb"""
import contextlib, io, os, signal, socket, sys, traceback
listener = socket.socket(fileno=int(sys.argv[1]))
while True:
    connection, _ = listener.accept()
    stream = connection.makefile("rb")
    program = stream.read(int(stream.readline())).decode()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            exec(program, {"connection": connection})
        except SystemExit:
            raise
        except BaseException:
            traceback.print_exc(file=said)
    connection.sendall(said.getvalue().encode())
    stream.close()
    connection.close()
"""
PATH_INSIDE = "/opt/agenthost/boot/stand_in.py"


@dataclass(frozen=True, slots=True)
class StandIn:
    """One sandbox with the stand-in guest."""

    backend: LocalBackend
    engine: Engine
    host: Host
    name: str

    @property
    def directory(self) -> Path:
        """The sandbox's directory on the host."""
        return Path(self.backend.directory)

    async def run(self, program: str) -> str:
        """Run Python inside and return what it printed."""
        carrier = await self.backend.dial()
        try:
            raw = program.encode()
            await carrier.send(b"%d\n%s" % (len(raw), raw))
            parts: list[bytes] = []
            while part := await carrier.receive():
                parts.append(part)
            return b"".join(parts).decode()
        finally:
            await carrier.aclose()


@asynccontextmanager
async def stand_in(
    spec: SandboxSpec | None = None,
    *,
    state_dir: str | None = None,
    program: list[str] | None = None,
    host: Host | None = None,
) -> AsyncGenerator[StandIn]:
    """Start a sandbox and end it with the block.

    Args:
        spec: What to make; a name is filled in.
        state_dir: Where it is kept.
        program: What runs in place of the stand-in guest.
        host: None finds it.
    """
    engine = Engine("local", root=state_dir, connect=connect_unix)
    host = host or find_host()
    spec = spec or SandboxSpec()
    spec = replace(spec, name=spec.name or generate_name(), max_lifetime=spec.max_lifetime or 120.0)
    program = program or [host.interpreter.path, "-I", "-S", PATH_INSIDE, str(LISTEN_FD)]
    boot = Boot(files={"stand_in.py": GUEST}, config={})
    backend = await launch_isolated(engine, host, spec, boot, program)
    try:
        yield StandIn(backend, engine, host, str(spec.name))
    finally:
        with anyio.CancelScope(shield=True):
            await backend.terminate()
        engine.close()


def processes_with(marker: str) -> list[int]:
    """Return the processes of this machine whose command line holds ``marker``; zombies are left out."""
    found: list[int] = []
    for pid in _pids():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if marker.encode() in command and pid != os.getpid():
            found.append(pid)
    return found


async def process_with(marker: str, command: bytes) -> int:
    """Wait for a process whose command line holds ``marker`` and begins with ``command``; return its id."""

    def find() -> list[int]:
        found = processes_with(marker)
        return [pid for pid in found if contents(f"/proc/{pid}/cmdline").startswith(command)]

    with anyio.fail_after(10):
        return (await until_true(find))[0]


def contents(path: str | Path) -> bytes:
    """Return a small file's bytes; a function of its own because tests are async."""
    return Path(path).read_bytes()


def is_part_of(sandbox: StandIn, pid: int) -> bool:
    """Return whether a process has a sandbox's directory mounted. One that ends meanwhile has nothing."""
    try:
        return str(sandbox.directory).encode() in contents(f"/proc/{pid}/mountinfo")
    except OSError:
        return False


def wait_gone(pid: int, seconds: float = 10.0) -> bool:
    """Wait until a process has ended. False when it has not."""
    try:
        handle = open_handle(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(handle)


def _pids() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)
