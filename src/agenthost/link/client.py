"""GuestSandbox: the whole Sandbox contract over a link to the guest."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from agenthost.errors import SandboxGoneError, SandboxPausedError
from agenthost.link.agents import AgentStatus, agent_status
from agenthost.link.answers import reading
from agenthost.link.arguments import check_bytes, check_number, start_params
from agenthost.link.channel import (
    AgentChannel,
    Observation,
    agent_params,
    drive_agent,
    observe_agent,
    open_channel,
)
from agenthost.link.files import MAX_BYTES, RemoteFile, open_file
from agenthost.link.layout import GuestLayout
from agenthost.link.process import execute, spawn
from agenthost.link.session import Session
from agenthost.link.tokens import TokenMaker
from agenthost.owners import note_gone
from agenthost.sandbox import Backend, Capabilities, ExecResult, Process, SandboxInfo
from agenthost.spec import check_text
from agenthost.supports import SupportsKeep

_INLINE_FILE = 16 * 1024  # bytes of a file that travel with the call that writes it


class GuestSandbox:
    """One sandbox whose guest does the work. Made by a provider, whose block its link lives in."""

    def __init__(
        self,
        backend: Backend,
        connect: Callable[[], Session],
        *,
        sandbox_id: str,
        name: str,
        provider: str,
        capabilities: Capabilities,
        layout: GuestLayout,
        token: TokenMaker,
    ) -> None:
        self.backend = backend
        self._connect = connect
        self._session = connect()
        self.layout = layout
        self.token = token
        self._id = sandbox_id
        self._name = name
        self._provider = provider
        self._capabilities = capabilities
        self._ended = False
        self._given_up: str | None = None  # the id of the last link that was up and ended by a pause

    def __repr__(self) -> str:
        return f"<GuestSandbox {self._provider}:{self._name}>"

    @property
    def session(self) -> Session:
        """The link of now."""
        return self._session

    @property
    def id(self) -> str:
        """The provider's id."""
        return self._id

    @property
    def name(self) -> str:
        """The unique name."""
        return self._name

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self._provider

    @property
    def capabilities(self) -> Capabilities:
        """What this sandbox can do."""
        return self._capabilities

    @property
    def workdir(self) -> str:
        """Absolute path of the working directory."""
        return self.layout.workdir

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
        """Run a program to its end. See Sandbox.exec."""
        session = self._live()
        params = start_params(session.unique(), argv, cwd=cwd, env=env, user=user)
        return await execute(session, params, stdin=stdin, timeout=timeout, max_output=max_output)

    def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> AbstractAsyncContextManager[Process]:
        """Start a program with streams. See Sandbox.spawn."""
        session = self._live()
        return spawn(session, start_params(session.unique(), argv, cwd=cwd, env=env, user=user))

    async def read_file(self, path: str, *, max_bytes: int = MAX_BYTES) -> bytes:
        """Return a file's bytes. See Sandbox.read_file. ``open_file`` reads larger files in pieces."""
        async with open_file(self._live(), path, max_bytes=max_bytes) as file:
            return await file.read()

    def open_file(self, path: str) -> AbstractAsyncContextManager[RemoteFile]:
        """Open a file of any size, to be read in pieces. Leaving the block closes it.

        ``async for piece in file`` yields its bytes as they come; not more than 2 MiB wait in this process.

        Raises:
            OSError: FileNotFoundError, IsADirectoryError, PermissionError ... with the path.
        """
        return open_file(self._live(), path)

    async def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Replace a file, whole or not at all. See Sandbox.write_file."""
        check_text("path", path)
        check_bytes("data", data)
        check_number("mode", mode, whole=True)
        session = self._live()
        params: dict[str, Any] = {"path": path, "mode": mode}
        if len(data) <= _INLINE_FILE:
            await session.call("write", {**params, "data": b64encode(data).decode("ascii")})
            return
        flow = session.outflow(f"f/{session.unique()}")
        try:
            call = session.begin("write", {**params, "stream": flow.sid})
            flow.write_now(data)
            flow.end()
            await session.answer(call)
        except BaseException:
            session.post("close", {"stream": flow.sid})  # what is there of it goes
            raise
        finally:
            session.close_outflow(flow)

    def agent(
        self,
        agent_id: str,
        *,
        argv: Sequence[str] | None = None,
        env: Mapping[str, str],
        model: bool,
        mcp: bool = False,
    ) -> AbstractAsyncContextManager[AgentChannel]:
        """Start an agent and drive it; leaving the block kills it.

        Args:
            agent_id: Unique in this sandbox.
            argv: The runner's; None is agenthost's own.
            env: Added to the runner's environment.
            model: Whether its model traffic travels over the link (``next_exchange``).
            mcp: Whether agenthost's own runner begins with what in-process MCP servers need.
        """
        command = argv or self.layout.runner_argv(mcp=mcp)
        params = agent_params(agent_id, command, self.token, env=env, model=model, news=argv is None)
        return self._driven(open_channel(self._live(), params, self.token))

    def drive_agent(
        self, agent_id: str, *, after: int | None = 0, lasting: bool = False
    ) -> AbstractAsyncContextManager[AgentChannel]:
        """Drive an agent that was started before; leaving the block kills it, unless it is lasting.

        Args:
            agent_id: Its name.
            after: Offset in its journal to go on from; None is the oldest byte that is kept.
            lasting: It runs on when the block is left; the channel's attribute can change it.
        """
        return self._driven(drive_agent(self._live(), agent_id, self.token, after=after, lasting=lasting))

    @asynccontextmanager
    async def _driven(
        self, opened: AbstractAsyncContextManager[AgentChannel]
    ) -> AsyncGenerator[AgentChannel]:
        async with opened as channel:
            if isinstance(self.backend, SupportsKeep):
                await self.backend.keep(None)  # a driver has come; the guest knows it already
            yield channel

    def observe_agent(
        self, agent_id: str, *, after: int | None = None
    ) -> AbstractAsyncContextManager[Observation]:
        """Read an agent's journal from an offset; None is the oldest byte that is kept."""
        return observe_agent(self._live(), agent_id, self.token, after=after)

    async def agents(self) -> list[AgentStatus]:
        """Return what agents there are, oldest first."""
        told = await self._live().call("agents", {})
        with reading("a list of agents"):
            return [agent_status(one) for one in told]

    async def keep_for(self, seconds: float) -> None:
        """Have the guest end after so many seconds, unless a driver of an agent comes before.

        Where the backend can, the sandbox also ends from outside then, whatever became of the guest.
        """
        await self._live().call("keep", {"seconds": seconds})
        if isinstance(self.backend, SupportsKeep):
            await self.backend.keep(seconds)

    async def kept_for(self) -> float | None:
        """Return after how many seconds from now the guest ends by ``keep_for``, None for never."""
        about = await self._live().call("about", {})
        with reading("a description of itself"):
            seconds = about["kept_for"]
            return None if seconds is None else float(seconds)

    async def info(self) -> SandboxInfo:
        """Ask the provider."""
        return await self.backend.info()

    async def terminate(self) -> None:
        """End the sandbox. Idempotent."""
        if not self._ended:
            self._ended = True
            gone = SandboxGoneError(f"sandbox {self._name} was terminated")
            self._session.close(gone)
            self._session.failure.error = gone  # also where a pause had ended the link before
        await self.backend.terminate()
        note_gone(self._id, self._name)

    def _live(self) -> Session:
        """Return the link for one more call: another one when that of now has ended by a pause.

        Whether the sandbox has been resumed shows then.
        """
        if not self._ended and isinstance(self._session.failure.error, SandboxPausedError):
            if self._session.was_up:
                self._given_up = self._session.link.link_id
            self._session = self._connect()
            if self._given_up is not None:
                # What was under way over that link has ended for its callers: now it ends inside, too.
                self._session.post("forget", {"link": self._given_up})
        return self._session
