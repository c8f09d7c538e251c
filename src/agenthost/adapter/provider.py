"""GuestProvider: what an adapter subclasses."""

from __future__ import annotations

import logging
import math
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

import anyio

from agenthost.adapter.boot import make_boot
from agenthost.adapter.checks import refuse_incapable, refuse_trio
from agenthost.adapter.record import LEASE_LABEL, NONCE_LABEL, refuse_reserved
from agenthost.background import BackgroundTasks, close_behind
from agenthost.errors import (
    AgentHostError,
    ConfigError,
    LinkError,
    SandboxGoneError,
    SandboxStartError,
    UnsupportedError,
    naming_what_ran_out,
)
from agenthost.link.channel import agent_params
from agenthost.link.client import GuestSandbox
from agenthost.link.layout import GuestLayout
from agenthost.link.secret import deployment_secret
from agenthost.link.session import Session
from agenthost.link.tokens import TokenMaker
from agenthost.owners import CREATED_LABEL, END_LABEL, OWNER_LABEL, note_gone, note_made, owner_id
from agenthost.sandbox import Backend, Boot, Capabilities, SandboxInfo
from agenthost.spec import DEFAULT_LIFETIME, Limits, SandboxSpec, generate_name, require
from agenthost.supports import SupportsHeaderInjection
from agenthost.wire.settings import WireSettings
from agenthost.wire.tokens import CONTROL

_log = logging.getLogger("agenthost.adapter")

_ENDING = 20.0  # seconds that ending a sandbox may take when its start failed


class LifetimeLimitError(UnsupportedError):
    """The plan of the account allows a shorter lifetime.

    Raise this from ``make``, where the vendor states its limit only then: a sandbox whose lifetime the caller
    did not choose is made again with this one.

    Attributes:
        seconds: What the plan allows.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds

    @classmethod
    def of_plan(cls, vendor: str, lifetime: float, longest: float) -> Self:
        """Return the error of an account whose plan allows so many seconds at most."""
        return cls(
            f"max_lifetime={lifetime:g}: the plan of this {vendor} account allows {longest / 3600:g} hours "
            "at most",
            longest,
        )


class GuestProvider(ABC):
    """A provider whose sandboxes run the guest. Links live while it is connected.

    Use it as ``async with``, or call ``connect`` and ``aclose``. Each may run in a task of its own.
    """

    name: str
    capabilities: Capabilities
    # True where guest and host are the same Python: byte code then saves compiling at each start.
    same_python: bool = False
    # Whether the vendor's client works on asyncio alone. On trio everything is then refused.
    asyncio_only: bool = False
    # Seconds that a sandbox lives whose spec does not state it.
    default_lifetime: float = DEFAULT_LIFETIME
    # True where only hosts can reach the guest's socket: nobody can be between, and frames are not sealed.
    private_socket: bool = False
    # The sizes and times of the links to its sandboxes.
    wire: WireSettings = WireSettings()

    def __init__(self, *, secret: str | bytes | None = None, limits: Limits | None = None) -> None:
        self._secret = deployment_secret(secret)
        self._limits = limits or Limits()
        self._tasks: BackgroundTasks | None = None
        self._sessions: list[Session] = []

    # ---- what an adapter brings

    async def resolve(self, spec: SandboxSpec) -> SandboxSpec:
        """Return the spec with what only the provider can add: the image that a missing ``image`` stands for.

        Called once for each sandbox, after ``check``, with name, labels and lifetime filled in. Labels that
        are added here are there for ``layout``.
        """
        return spec

    @abstractmethod
    def check(self, spec: SandboxSpec) -> None:
        """Raise ConfigError or UnsupportedError for what cannot be made. Called once, before ``make``.

        What the capabilities do not have (networks, limits, mounts, injected headers, leases) is refused
        afterwards in any case.
        """

    @abstractmethod
    def layout(self, spec: SandboxSpec) -> GuestLayout:
        """Tell where things will be inside."""

    @abstractmethod
    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Make a sandbox: name, labels and lifetime are filled in. Nothing is left when it raises."""

    @abstractmethod
    async def reach(self, sandbox_id: str) -> Backend:
        """Return a sandbox made before. Raises SandboxNotFoundError."""

    @abstractmethod
    def list(self, labels: Mapping[str, str] | None = None) -> AsyncIterator[SandboxInfo]:
        """Yield what there is, newest first."""

    async def came_up(self, name: str) -> None:  # noqa: B027 - most adapters have nothing to do
        """Called by ``create`` with the sandbox's name when the guest has answered."""

    async def close_clients(self) -> None:  # noqa: B027 - most adapters have no client to close
        """Close clients of the vendor. ``aclose`` calls this when every link is closed. Idempotent."""

    # ---- what everybody gets

    async def connect(self) -> Self:
        """Open the provider and return it, for use without a block. ``aclose`` closes it.

        Raises:
            ConfigError: The provider is connected already.
            UnsupportedError: On trio, where the vendor's client works on asyncio alone.
        """
        self.check_loop()
        if self._tasks is not None:
            raise ConfigError(f"this {self.name} provider is connected already")
        self._tasks = tasks = BackgroundTasks()
        try:
            await tasks.open()
        except BaseException:
            self._tasks = None
            raise
        return self

    async def aclose(self) -> None:
        """Close every link and every client. Sandboxes run on. Idempotent.

        An adapter that has clients to close implements ``close_clients``, not this method.
        """
        tasks, self._tasks = self._tasks, None
        for session in tuple(self._sessions):
            session.close()
        try:
            if tasks is not None:
                await tasks.aclose()
        finally:
            with anyio.move_on_after(_ENDING, shield=True):
                await self.close_clients()

    async def __aenter__(self) -> Self:
        """Connect."""
        return await self.connect()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close. What fails while closing is logged where the block itself raised."""
        await close_behind(exc, self.aclose)

    async def create(
        self,
        spec: SandboxSpec,
        *,
        agent_id: str | None = None,
        mcp: bool = False,
        needs_sdk: bool = False,
        on_progress: Callable[[str], object] | None = None,
    ) -> GuestSandbox:
        """Make a sandbox and wait until its guest answers.

        Args:
            spec: What to make.
            agent_id: Start an agent of this name with the sandbox, for ``drive_agent``: its boot then
                overlaps with the guest's. Its model traffic travels over the link.
            mcp: That agent is ready for in-process MCP servers.
            needs_sdk: An agent will be started there later: see to it that the SDK is there, too. An
                ``agent_id`` says so already.
            on_progress: Called with a line of text for each step that takes long, an installation above all.

        Raises:
            SandboxStartError: It did not answer in time; it has been ended.
            RuntimeError: The provider is not connected.
        """
        self.check_loop()
        self._connected()
        with naming_what_ran_out("make a sandbox"):
            name, layout, tokens, backend = await self._make(
                spec, agent_id, mcp=mcp, needs_sdk=needs_sdk, on_progress=on_progress
            )
        sandbox: GuestSandbox | None = None
        try:
            await backend.boot()
            info = await backend.info()
            sandbox = self._connect(backend, info, layout, tokens, start=self._limits.start)
            with anyio.fail_after(self._limits.start):
                await sandbox.session.wait_ready()
            await self.came_up(name)
        except BaseException as exc:
            with anyio.move_on_after(_ENDING, shield=True):
                await (backend if sandbox is None else sandbox).terminate()
                note_gone(name)
            if isinstance(exc, TimeoutError | LinkError | SandboxGoneError):
                why = str(exc) or f"its guest did not answer within {self._limits.start:g} s"
                raise SandboxStartError(f"sandbox {name} did not come up: {why}") from exc
            raise
        return sandbox

    async def launch(self, spec: SandboxSpec, *, agent_id: str, mcp: bool = False) -> str:
        """Make a sandbox that starts an agent, and return its id without waiting for either.

        ``get`` and ``drive_agent`` take them up. With ``mcp`` the agent is ready for in-process MCP servers.
        """
        name, _, _, backend = await self._make(spec, agent_id, mcp=mcp)
        try:
            await backend.boot()
            return (await backend.info()).id
        except BaseException:
            with anyio.move_on_after(_ENDING, shield=True):
                await backend.terminate()
                note_gone(name)
            raise

    async def _make(
        self,
        spec: SandboxSpec,
        agent_id: str | None,
        *,
        mcp: bool,
        needs_sdk: bool = False,
        on_progress: Callable[[str], object] | None = None,
    ) -> tuple[str, GuestLayout, TokenMaker, Backend]:
        require("spec", spec, SandboxSpec, "a SandboxSpec")
        self.check_loop()
        make = partial(self._make_once, spec, agent_id, mcp=mcp, needs_sdk=needs_sdk, on_progress=on_progress)
        try:
            return await make()
        except LifetimeLimitError as limit:
            if spec.max_lifetime is not None or limit.seconds >= self.default_lifetime:
                raise
            self.default_lifetime = limit.seconds
            hours = limit.seconds / 3600
            _log.warning("%s: sandboxes end after %g hours, the longest of this plan", self.name, hours)
        return await make()

    async def _make_once(
        self,
        spec: SandboxSpec,
        agent_id: str | None,
        *,
        mcp: bool,
        needs_sdk: bool,
        on_progress: Callable[[str], object] | None,
    ) -> tuple[str, GuestLayout, TokenMaker, Backend]:
        refuse_reserved(spec.labels)
        name = spec.name or generate_name()
        nonce = secrets.token_hex(16)
        lifetime = spec.max_lifetime or self.default_lifetime
        made_at = int(time.time())
        labels = {
            **spec.labels,
            NONCE_LABEL: nonce,
            OWNER_LABEL: owner_id(),
            CREATED_LABEL: str(made_at),
            END_LABEL: str(math.ceil(made_at + lifetime)),
        }
        if spec.lease is not None:
            labels[LEASE_LABEL] = repr(float(spec.lease))
        spec = replace(spec, name=name, max_lifetime=lifetime, labels=labels)
        self._check(spec)
        spec = await self.resolve(spec)
        layout = self.layout(spec)
        tokens = TokenMaker(self._secret, sandbox=name, nonce=nonce)
        boot = make_boot(
            layout,
            control_verifier=tokens.verifier("", CONTROL),
            guest_key=self._guest_key(tokens),
            env=spec.env,
            lifetime=lifetime,
            agent=None if agent_id is None else _first_agent(agent_id, layout, tokens, mcp=mcp),
            compiled=self.same_python,
            needs_sdk=needs_sdk,
            on_progress=on_progress,
        )
        return name, layout, tokens, await self._make_owned(spec, boot, name)

    def _check(self, spec: SandboxSpec) -> None:
        self.check(spec)
        refuse_incapable(spec, self.capabilities, self.name)  # after ``check``, whose messages say more
        if spec.inject and isinstance(self, SupportsHeaderInjection):
            self.check_headers(spec.inject)

    def check_loop(self) -> None:
        """Refuse trio where the vendor's client works on asyncio alone. Raises UnsupportedError."""
        if self.asyncio_only:
            refuse_trio(self.name)

    async def _make_owned(self, spec: SandboxSpec, boot: Boot, name: str) -> Backend:
        note_made(name)  # before it is there: who is killed while it is made leaves nothing unknown
        try:
            return await self.make(spec, boot)
        except BaseException:
            note_gone(name)
            raise

    async def get(self, sandbox_id: str) -> GuestSandbox:
        """Return a sandbox made before, by this or another process.

        Raises:
            SandboxNotFoundError: There is none with this id.
            AccessDeniedError: It was made with another deployment secret.
            RuntimeError: The provider is not connected.
        """
        self.check_loop()
        self._connected()
        backend = await self.reach(sandbox_id)
        info = await backend.info()
        nonce = info.labels.get(NONCE_LABEL)
        if nonce is None:
            raise AgentHostError(f"sandbox {info.name} was not made by agenthost: it has no nonce")
        tokens = TokenMaker(self._secret, sandbox=info.name, nonce=nonce)
        layout = self.layout(SandboxSpec(name=info.name, labels=info.labels))
        sandbox = self._connect(backend, info, layout, tokens)
        try:
            await sandbox.session.wait_ready()
        except BaseException:
            sandbox.session.close()
            raise
        return sandbox

    def _connected(self) -> BackgroundTasks:
        if self._tasks is None:
            raise RuntimeError(
                f"the {self.name} provider is not connected: use it as `async with`, or call connect()"
            )
        return self._tasks

    def guest_key(self, info: SandboxInfo) -> bytes:
        """Return what proves the guest of a sandbox to its hosts, for an HttpDialer. Secret."""
        tokens = TokenMaker(self._secret, sandbox=info.name, nonce=info.labels[NONCE_LABEL])
        return tokens.guest_key()

    def _guest_key(self, tokens: TokenMaker) -> bytes | None:
        return None if self.private_socket else tokens.guest_key()

    async def _run(self, session: Session) -> None:
        try:
            await session.run()
        finally:
            self._sessions.remove(session)

    def _connect(
        self,
        backend: Backend,
        info: SandboxInfo,
        layout: GuestLayout,
        tokens: TokenMaker,
        *,
        start: float | None = None,
    ) -> GuestSandbox:
        def connect() -> Session:
            tasks = self._connected()
            session = Session(
                backend,
                name=info.name,
                guest_key=self._guest_key(tokens),
                settings=self.wire,
                budget=self._limits.link_budget,
                start=start,
                call_timeout=self._limits.call_timeout,
            )
            session.link.grant("", CONTROL, tokens.control())
            self._sessions.append(session)
            tasks.start_soon(self._run, session)
            return session

        return GuestSandbox(
            backend,
            connect,
            sandbox_id=info.id,
            name=info.name,
            provider=self.name,
            capabilities=self.capabilities,
            layout=layout,
            token=tokens,
        )


def _first_agent(agent_id: str, layout: GuestLayout, tokens: TokenMaker, *, mcp: bool) -> dict[str, Any]:
    return agent_params(agent_id, layout.runner_argv(mcp=mcp), tokens, env={}, model=True, news=True)
