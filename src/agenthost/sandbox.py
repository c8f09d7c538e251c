"""The contracts: Sandbox, SandboxProvider, and the Backend that an adapter brings.

What only some of them can do is in ``supports``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, Self, runtime_checkable

from agenthost.spec import SandboxSpec

Isolation = Literal["none", "namespaces", "gvisor", "microvm"]
SandboxState = Literal["starting", "running", "paused", "ended"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a provider, or one of its sandboxes, can do; asked for before anything is made.

    Attributes:
        isolation: By mechanism.
        networks: Modes of NetworkPolicy that are enforced.
        default_network: The mode of a sandbox whose spec says nothing.
        limits: Names of ResourceLimits fields that are enforced exactly.
        ports, lease, pause, snapshot, images, header_injection, bulk_files: The protocols of ``supports``.
        mounts: Whether SandboxSpec.mounts is honoured.
    """

    isolation: Isolation
    networks: frozenset[str] = frozenset()
    default_network: Literal["open", "none"] = "open"
    limits: frozenset[str] = frozenset()
    ports: bool = False
    lease: bool = False
    pause: bool = False
    snapshot: bool = False
    images: bool = False
    header_injection: bool = False
    bulk_files: bool = False
    mounts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxInfo:
    """What the provider says of one sandbox. Times are seconds since the epoch."""

    id: str
    name: str
    provider: str
    state: SandboxState
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    created_at: float | None = None
    expires_at: float | None = None
    isolation: Isolation = "none"
    # What it really got, in the provider's words: {"uid": "61184", "seccomp": "on", "memory": "unlimited"}.
    resources: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """What a program did. A non-zero exit code is a result, not an error.

    Attributes:
        exit_code: The exit code; 128 + N when signal N ended it.
        stdout: Bytes, as printed.
        stderr: Bytes, as printed.
        truncated: True when more than ``max_output`` was printed: the first bytes are kept.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes
    truncated: bool = False


class Process(Protocol):
    """A running program. Leaving its block kills what is left of its process group."""

    @property
    def pid(self) -> int:
        """The process id inside the sandbox."""
        ...

    async def receive_stdout(self) -> bytes:
        """Return the next bytes as soon as they are printed; ``b""`` when stdout has ended."""
        ...

    async def receive_stderr(self) -> bytes:
        """Return the next bytes of stderr; ``b""`` when it has ended."""
        ...

    async def send_stdin(self, data: bytes) -> None:
        """Write bytes. Waits while the program does not read. BrokenPipeError when it closed stdin."""
        ...

    async def close_stdin(self) -> None:
        """End stdin. Idempotent."""
        ...

    async def signal(self, signum: int) -> None:
        """Send a signal to the whole process group. No error when it has ended."""
        ...

    async def wait(self) -> int:
        """Return the exit code (128 + N for signal N) when it has ended."""
        ...


class Sandbox(Protocol):
    """One isolated machine. docs/contract.md numbers the clauses."""

    @property
    def id(self) -> str:
        """The provider's id; ``SandboxProvider.get`` takes it."""
        ...

    @property
    def name(self) -> str:
        """The unique name."""
        ...

    @property
    def provider(self) -> str:
        """The provider's name."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this sandbox can do."""
        ...

    @property
    def workdir(self) -> str:
        """Absolute path of the working directory."""
        ...

    async def exec(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float | None = None,
        user: str | None = None,
        max_output: int = 16 * 1024 * 1024,
    ) -> ExecResult:
        """Run a program to its end.

        Raises:
            OSError: It could not be started; the kernel's errno (ENOENT, EACCES, E2BIG ...).
            ExecTimeoutError: After ``timeout`` seconds; the group was killed; partial output on the error.
            SandboxGoneError: The sandbox has ended.
        """
        ...

    def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> AbstractAsyncContextManager[Process]:
        """Start a program with streams. Leaving the block kills its process group."""
        ...

    async def read_file(self, path: str, *, max_bytes: int = 64 * 1024 * 1024) -> bytes:
        """Return a file's bytes. Relative paths start at ``workdir``.

        Raises:
            FileTooLargeError: It has more than ``max_bytes`` bytes: what is inside decides how large a file
                is, and the caller how much of it comes into this process.
        """
        ...

    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Replace a file, whole or not at all. Parents are made."""
        ...

    async def info(self) -> SandboxInfo:
        """Ask the provider. Never resumes a paused sandbox."""
        ...

    async def terminate(self) -> None:
        """End the sandbox and all it holds. Idempotent."""
        ...


@runtime_checkable
class Carrier(Protocol):
    """What moves bytes between host and guest, once; a new dial makes a new one.

    Bytes arrive whole and in order or the carrier ends. ``send`` and ``receive`` may run at once, each in
    one task at a time.
    """

    @property
    def binary(self) -> bool:
        """True when every byte value passes. Otherwise only ASCII lines do."""
        ...

    async def send(self, data: bytes) -> None:
        """Send all bytes. Raises OSError or an anyio resource error when the carrier has ended."""
        ...

    async def receive(self) -> bytes:
        """Return the next bytes, ``b""`` when the carrier has ended."""
        ...

    async def aclose(self) -> None:
        """Close. Idempotent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What must be put into a sandbox and started there. No token is in it, and none can be computed from it.

    Attributes:
        files: Bytes by file name; they belong together in one directory, mode 0600.
        config: The guest's configuration, JSON: also in ``files`` as ``boot.json``.
        needs_sdk: An agent will live there: the Claude Agent SDK must be there when ``boot`` returns.
            Otherwise nothing is installed.
        on_progress: Called with a line of text for each step of the start that takes long.
    """

    files: Mapping[str, bytes]
    config: Mapping[str, object]
    needs_sdk: bool = False
    on_progress: Callable[[str], object] | None = None


class Backend(Protocol):
    """The little that a provider brings for one sandbox. ``GuestSandbox(backend)`` is the Sandbox."""

    async def boot(self) -> None:
        """Have the guest running. Where it starts with the machine, wait for nothing."""
        ...

    async def dial(self) -> Carrier:
        """Make a new carrier to the guest. Never resumes a paused sandbox."""
        ...

    async def info(self) -> SandboxInfo:
        """Ask the provider. Never resumes a paused sandbox."""
        ...

    async def terminate(self) -> None:
        """End the sandbox and all it holds. Idempotent."""
        ...


class SandboxProvider(Protocol):
    """A provider of sandboxes, to be used as ``async with``, or by ``connect`` and ``aclose``.

    Opening and closing may run in different tasks.
    """

    @property
    def name(self) -> str:
        """The registered name."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What its sandboxes can do."""
        ...

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Make one sandbox. When cancelled or failed, nothing is left of it."""
        ...

    async def get(self, sandbox_id: str) -> Sandbox:
        """Return a sandbox made before, by this or another process.

        Raises:
            SandboxNotFoundError: There is none with this id.
        """
        ...

    def list(self, labels: Mapping[str, str] | None = None) -> AsyncIterator[SandboxInfo]:
        """Yield what the provider knows, newest first, filtered by labels."""
        ...

    async def connect(self) -> Self:
        """Open the provider and return it."""
        ...

    async def aclose(self) -> None:
        """Close links and clients. Ends no sandbox. Idempotent."""
        ...

    async def __aenter__(self) -> Self:
        """Connect."""
        ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        ...


@runtime_checkable
class SupportsBuilders(Protocol):
    """A provider that makes images in something that a killed host leaves behind: ``reap`` looks for it."""

    def builders(self) -> AsyncIterator[SandboxInfo]:
        """Yield what images are made in now, each with its owner's label; ``list`` does not tell of them."""
        ...

    async def remove_builder(self, builder_id: str) -> None:
        """Remove one. Idempotent."""
        ...
