"""A sandbox and a provider that do nothing themselves: each wrong one differs from them in one thing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from anyio.abc import TaskGroup

from agenthost import Capabilities, ExecResult, Process, Sandbox, SandboxInfo, SandboxProvider, SandboxSpec
from agenthost.supports import Endpoint

T = TypeVar("T")


class WrappedProcess:
    """A process that is another one."""

    def __init__(self, inner: Process) -> None:
        self.inner = inner

    @property
    def pid(self) -> int:
        return self.inner.pid

    async def receive_stdout(self) -> bytes:
        return await self.inner.receive_stdout()

    async def receive_stderr(self) -> bytes:
        return await self.inner.receive_stderr()

    async def send_stdin(self, data: bytes) -> None:
        await self.inner.send_stdin(data)

    async def close_stdin(self) -> None:
        await self.inner.close_stdin()

    async def signal(self, signum: int) -> None:
        await self.inner.signal(signum)

    async def wait(self) -> int:
        return await self.inner.wait()


class WrappedBackend:
    """What another sandbox can do beyond the rest."""

    def __init__(self, inner: Sandbox) -> None:
        self.inner: Any = getattr(inner, "backend", inner)

    async def snapshot(self, name: str | None = None) -> str:
        image: str = await self.inner.snapshot(name)
        return image

    async def endpoint(self, port: int) -> Endpoint:
        found: Endpoint = await self.inner.endpoint(port)
        return found

    async def pause(self) -> None:
        await self.inner.pause()

    async def resume(self) -> None:
        await self.inner.resume()


class WrappedSandbox:
    """A sandbox that is another one."""

    process: type[WrappedProcess] = WrappedProcess

    def __init__(self, inner: Sandbox, provider: WrappedProvider) -> None:
        self.inner = inner
        self.maker = provider

    @property
    def id(self) -> str:
        return self.inner.id

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def provider(self) -> str:
        return self.inner.provider

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    @property
    def workdir(self) -> str:
        return self.inner.workdir

    @property
    def backend(self) -> Any:
        return WrappedBackend(self.inner)

    async def exec(self, argv: Sequence[str], **options: Any) -> ExecResult:
        return await self.inner.exec(argv, **options)

    def spawn(self, argv: Sequence[str], **options: Any) -> AbstractAsyncContextManager[Process]:
        return self._spawn(argv, **options)

    @asynccontextmanager
    async def _spawn(self, argv: Sequence[str], **options: Any) -> AsyncGenerator[Process]:
        async with self.inner.spawn(argv, **options) as process:
            yield self.process(process)

    async def read_file(self, path: str, **options: Any) -> bytes:
        return await self.inner.read_file(path, **options)

    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        await self.inner.write_file(path, data, mode=mode)

    async def info(self) -> SandboxInfo:
        return await self.inner.info()

    async def terminate(self) -> None:
        await self.inner.terminate()


class WrappedProvider:
    """A provider that is another one."""

    sandbox: type[WrappedSandbox] = WrappedSandbox

    def __init__(self, inner: SandboxProvider, tasks: TaskGroup, stack: ExitStack) -> None:
        self.inner = inner
        self.tasks = tasks  # runs on when a check is over, until all that was made is ended
        self.stack = stack
        self.made: list[Sandbox] = []

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    async def create(self, spec: SandboxSpec) -> Sandbox:
        sandbox = await self.inner.create(spec)
        self.made.append(sandbox)
        return self.sandbox(sandbox, self)

    async def get(self, sandbox_id: str) -> Sandbox:
        return self.sandbox(await self.inner.get(sandbox_id), self)

    def list(self, labels: Mapping[str, str] | None = None) -> AsyncIterator[SandboxInfo]:
        return self.inner.list(labels)

    async def connect(self) -> Self:
        await self.inner.connect()
        return self

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


@dataclass(frozen=True, slots=True)
class Wrong:
    """A provider that is wrong in one thing.

    Attributes:
        clause: What it violates.
        provider: What is wrong, or makes the sandboxes that are.
        also: Other checks that it cannot but fail, with the reason.
    """

    clause: str
    provider: type[WrappedProvider]
    also: Mapping[str, str]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.clause} {self.provider.__name__}"


WRONG: list[Wrong] = []


def wrong(clause: str, **also: str) -> Callable[[type[T]], type[T]]:
    """Say what a class does wrong, and which other checks fail for that, with the reason."""

    def note(found: type[T]) -> type[T]:
        if issubclass(found, WrappedProvider):
            provider: type[WrappedProvider] = found
        else:
            made: type[Any] = found
            if issubclass(found, WrappedProcess):
                made = type(found.__name__, (WrappedSandbox,), {"process": found})
            provider = type(found.__name__, (WrappedProvider,), {"sandbox": made})
        WRONG.append(Wrong(clause, provider, also))
        return found

    return note
