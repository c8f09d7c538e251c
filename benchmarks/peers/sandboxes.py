"""The local sandboxes of other libraries, and agenthost's, behind the same few calls."""

from __future__ import annotations

import io
import shlex
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

OUTPUT_BYTES = 64 * 1024 * 1024  # the most output that is asked for, where a library has a bound of its own


@dataclass(frozen=True)
class Sandbox:
    """What is measured of a sandbox.

    Attributes:
        exec: Run a program to its end, and return what it printed.
        write, read: One file of bytes below the working directory.
    """

    exec: Callable[[list[str]], Awaitable[bytes]]
    write: Callable[[str, bytes], Awaitable[object]]
    read: Callable[[str], Awaitable[bytes]]


@dataclass(frozen=True)
class Peer:
    """A library.

    Attributes:
        package: Its name on PyPI.
        isolation: What keeps a program of this sandbox from the rest of the machine.
        open: Make a sandbox, which ends with the block.
    """

    package: str
    isolation: str
    open: Callable[[], AbstractAsyncContextManager[Sandbox]]


@asynccontextmanager
async def agenthost_local() -> AsyncGenerator[Sandbox]:
    """Give agenthost's provider ``local``."""
    from agenthost import SandboxSpec, open_provider

    async with open_provider("local") as provider:
        box = await provider.create(SandboxSpec())

        async def run(argv: list[str]) -> bytes:
            return (await box.exec(argv, max_output=OUTPUT_BYTES)).stdout

        try:
            yield Sandbox(run, box.write_file, box.read_file)
        finally:
            await box.terminate()


@asynccontextmanager
async def openai_agents() -> AsyncGenerator[Sandbox]:
    """Give openai-agents' local sandbox."""
    from agents.sandbox.sandboxes.unix_local import UnixLocalSandboxClient, UnixLocalSandboxClientOptions

    client = UnixLocalSandboxClient()
    session = await client.create(options=UnixLocalSandboxClientOptions())

    async def run(argv: list[str]) -> bytes:
        result = await session.exec(*argv, shell=False)
        return result.stdout

    async def read(path: str) -> bytes:
        with await session.read(Path(path)) as file:
            return file.read()

    async with session:
        try:
            yield Sandbox(run, lambda path, data: session.write(Path(path), io.BytesIO(data)), read)
        finally:
            await client.delete(session)


@asynccontextmanager
async def deepagents() -> AsyncGenerator[Sandbox]:
    """Give deepagents' local shell backend."""
    from deepagents.backends.local_shell import LocalShellBackend

    with tempfile.TemporaryDirectory() as folder:
        backend = LocalShellBackend(root_dir=folder, inherit_env=True, max_output_bytes=OUTPUT_BYTES)

        async def run(argv: list[str]) -> bytes:
            return (await backend.aexecute(shlex.join(argv))).output.encode()

        async def read(path: str) -> bytes:
            (answer,) = await backend.adownload_files([f"/{path}"])
            assert answer.content is not None, answer
            return answer.content

        yield Sandbox(run, lambda path, data: backend.aupload_files([(f"/{path}", data)]), read)


@asynccontextmanager
async def inspect_ai() -> AsyncGenerator[Sandbox]:
    """Give inspect_ai's local sandbox."""
    from inspect_ai.util._concurrency import init_concurrency
    from inspect_ai.util._sandbox.local import LocalSandboxEnvironment
    from inspect_ai.util._subprocess import init_max_subprocesses

    init_concurrency()
    init_max_subprocesses()
    made = await LocalSandboxEnvironment.sample_init("measured", None, {})
    box = made["default"]

    async def run(argv: list[str]) -> bytes:
        return (await box.exec(argv)).stdout.encode()

    try:
        yield Sandbox(run, box.write_file, lambda path: box.read_file(path, text=False))
    finally:
        await LocalSandboxEnvironment.sample_cleanup("measured", None, made, interrupted=False)


@asynccontextmanager
async def swe_rex() -> AsyncGenerator[Sandbox]:
    """Give SWE-ReX's local deployment. Its files are text: bytes travel as Latin-1."""
    from swerex.deployment.local import LocalDeployment
    from swerex.runtime.abstract import Command, ReadFileRequest, WriteFileRequest

    with tempfile.TemporaryDirectory() as folder:
        deployment = LocalDeployment()
        await deployment.start()
        runtime = deployment.runtime

        async def run(argv: list[str]) -> bytes:
            return (await runtime.execute(Command(command=argv, cwd=folder))).stdout.encode()

        async def write(path: str, data: bytes) -> None:
            text = data.decode("latin-1")
            await runtime.write_file(WriteFileRequest(path=f"{folder}/{path}", content=text))

        async def read(path: str) -> bytes:
            answer = await runtime.read_file(ReadFileRequest(path=f"{folder}/{path}"))
            return answer.content.encode("latin-1")

        try:
            yield Sandbox(run, write, read)
        finally:
            await deployment.stop()


PEERS = (
    Peer("agenthost", "bubblewrap, seccomp, another uid", agenthost_local),
    Peer("openai-agents", "none on Linux", openai_agents),
    Peer("deepagents", "none", deepagents),
    Peer("inspect-ai", "none", inspect_ai),
    Peer("swe-rex", "none", swe_rex),
)
