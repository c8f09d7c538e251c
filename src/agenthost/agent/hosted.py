"""HostedAgent: ClaudeSDKClient's methods, for an agent in a sandbox."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, cast

import anyio

from agenthost.agent.attachment import After, Attachment, make_attachment
from agenthost.agent.audit.settings import Audit, AuditLevel
from agenthost.agent.credentials import Credentials
from agenthost.agent.defaults import NO_DEFAULTS, SafeDefaults
from agenthost.agent.life import AgentLife
from agenthost.agent.messages import Messages, journal_of, read_reply
from agenthost.agent.plan import check_values, make_plan
from agenthost.agent.progress import Progress
from agenthost.agent.ref import AgentRef, Cursor
from agenthost.agent.sdk import loaded_sdk
from agenthost.agent.usage import Usage
from agenthost.errors import AgentError, CallTimeoutError, ConfigError
from agenthost.files.ignore import Ignore
from agenthost.files.transfer import download_dir
from agenthost.files.values import Downloaded
from agenthost.sandbox import Sandbox, SandboxProvider
from agenthost.spec import Limits, SandboxSpec

if TYPE_CHECKING:
    from claude_agent_sdk import (
        ClaudeAgentOptions,
        ContextUsageResponse,
        McpStatusResponse,
        Message,
        PermissionMode,
    )

    from agenthost.agent.configured import Overrides
    from agenthost.agent.security_report import SecurityReport
    from agenthost.config.load import Config

_log = logging.getLogger("agenthost.agent")


class HostedAgent:
    """An agent in a sandbox, with the methods, messages and exceptions of ClaudeSDKClient.

    Use it as ``async with``, or call ``connect`` and ``disconnect``. Its methods may be called from any
    task. Leaving the block interrupts a running turn, ends the agent and, unless ``sandbox=`` was given,
    the sandbox; that is not cut short by cancellation and takes a bounded time.
    """

    def __init__(
        self,
        options: ClaudeAgentOptions | dict[str, Any] | None = None,
        *,
        provider: str | SandboxProvider | None = None,
        sandbox: Sandbox | None = None,
        spec: SandboxSpec | None = None,
        workspace: str | os.PathLike[str] | None = None,
        credentials: Credentials = "host",
        limits: Limits | None = None,
        defaults: SafeDefaults | None = SafeDefaults(),  # noqa: B008 - a frozen value
        on_progress: Callable[[Progress], None] | None = None,
        ack: Literal["auto", "manual"] = "auto",
        audit: Audit | AuditLevel | None = None,
    ) -> None:
        """Say what is wanted. Values are checked here; nothing is read or made before ``connect``.

        Args:
            options: As for ClaudeSDKClient, or its fields in a dict, which needs no import of the SDK.
                Paths in it name places in the sandbox. Its functions (``can_use_tool``, hooks, in-process
                MCP servers, ``session_store``, ``stderr``) run in this process.
            provider: Who makes the sandbox, by name or as an open provider. None is ``local``.
            sandbox: A sandbox that exists. It is not ended with the agent.
            spec: What sandbox to make.
            workspace: A directory of this machine, uploaded into the sandbox's working directory before the
                agent starts. What looks like a secret is left out; ``.agenthostignore`` says more.
            credentials: ``host``: the key stays on this machine, which asks the model for the agent.
                ``provider``: the provider adds it to the agent's own requests, outside the sandbox
                (capability ``header_injection``): for agents that work on without a host. ``env``: it is put
                into the sandbox, where the agent can read it.
            limits: Bounds in seconds and bytes.
            defaults: What the agent does otherwise than the SDK's defaults; None is nothing.
            on_progress: Called with each step of the start and the end.
            ack: ``auto``: asking for the next message says that the one before will never be asked for
                again. ``manual``: only ``ack`` says so; an agent whose journal is full waits for it.
            audit: What is logged of the agent, and where; a level alone, or an Audit. None is ``off``.

        Raises:
            ConfigError: An argument is of the wrong kind, or the options have a field that
                ClaudeAgentOptions of the installed SDK lacks.
        """
        self._options = options
        self._provider = provider
        self._sandbox = sandbox
        self._spec = spec
        self._workspace = workspace
        self._credentials: Credentials = credentials
        self._limits = limits
        self._defaults = defaults if defaults is not None else NO_DEFAULTS
        check_values(options, spec, limits, self._defaults, audit)
        self._audit = audit
        self._on_progress = on_progress
        self._ack: Literal["auto", "manual"] = ack
        self._attachment: Attachment | None = None
        self._ref: AgentRef | None = None
        self._life: AgentLife | None = None
        self._last: tuple[Usage, str | None, Cursor] = (Usage(), None, Cursor())

    @classmethod
    def from_config(
        cls,
        path: str | os.PathLike[str] | Config | None = None,
        *,
        options: ClaudeAgentOptions | dict[str, Any] | None = None,
        **overrides: Unpack[Overrides],
    ) -> Self:
        """Return an agent as a config says: a file and ``AGENTHOST_*`` variables, which win over the file.

        Args:
            path: The file, or what ``load_config`` returned. None: the file that AGENTHOST_CONFIG names;
                without that, the variables alone.
            options: As for HostedAgent. What is set here comes before what the config says, field by field;
                ``env`` is put together name by name.
            overrides: Other arguments of HostedAgent; each takes the place of what the config says. A
                provider's name has the options of its own table in the config.

        Raises:
            ConfigError: The config cannot be read or makes no sense; see ``load_config``.
        """
        # Here and not above: reading a config needs pydantic, which takes a tenth of a second to import.
        from agenthost.agent.configured import arguments_of

        chosen, arguments = arguments_of(path, options, overrides)
        return cls(chosen, **arguments)

    @classmethod
    def attach(
        cls,
        ref: AgentRef | str | bytes,
        *,
        role: Literal["driver", "observer"] = "driver",
        after: After = None,
        options: ClaudeAgentOptions | dict[str, Any] | None = None,
        provider: str | SandboxProvider | None = None,
        sandbox: Sandbox | None = None,
        credentials: Credentials | None = None,
        limits: Limits | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        ack: Literal["auto", "manual"] = "auto",
        audit: Audit | AuditLevel | None = None,
    ) -> Self:
        """Return an agent that was started before, by this process or another; ``connect`` reaches it.

        A driver steers it, answers what it asks and is its owner: it ends with the block unless ``detach`` is
        called. The driver before gets SupersededError. An observer only reads, at its own pace.

        Args:
            ref: From ``agent.ref`` or ``agent.detach``, or the JSON of it.
            role: What this process is to the agent.
            after: The cursor (or its text) behind which messages are wanted; None is the ref's own; the
                number of an event, which is found by reading from the beginning; or ``oldest``, what is kept.
            options: Only the functions that this process answers with, and in ``env`` how it asks the model
                (``ANTHROPIC_*``). What is not there waits for who has it. Rules: docs/permissions.md.
            provider: The ref's provider with other options than its defaults, as an open one.
            sandbox: The sandbox, where it was made by ``sandbox=`` then.
            credentials: None is the ref's.
            limits: As for HostedAgent.
            on_progress: As for HostedAgent.
            ack: As for HostedAgent; an observer's never counts.
            audit: As for HostedAgent. None: the agent's log goes on where this user has one; an observer
                logs nothing.

        Raises:
            ConfigError: The arguments make no sense.
        """
        attachment = make_attachment(ref, role, after)
        agent = cls(
            options,
            provider=provider,
            sandbox=sandbox,
            credentials=credentials or cast("Credentials", attachment.ref.credentials),
            limits=limits,
            on_progress=on_progress,
            ack=ack,
            audit=audit,
        )
        agent._attachment = attachment
        return agent

    def security_report(self) -> SecurityReport:
        """Return how safe this agent would be, before anything is made: pass, warn or fail, with what to do.

        Raises:
            ConfigError: The arguments make no sense, or the agent runs already and only its options tell.
        """
        from agenthost.agent.security_report import make_report

        if self._attachment is not None:
            raise ConfigError(
                "a security report is on an agent that is to be made, and this one runs already"
            )
        return make_report(
            options=self._options,
            provider=self._provider,
            sandbox=self._sandbox,
            spec=self._spec,
            limits=self._limits,
            defaults=self._defaults,
            credentials=self._credentials,
            audit=self._audit,
        )

    def __repr__(self) -> str:
        sandbox = self._life.sandbox if self._life else None
        return f"<HostedAgent {'not connected' if sandbox is None else f'in {sandbox!r}'}>"

    # ---- life

    async def connect(self, prompt: str | AsyncIterable[dict[str, Any]] | None = None) -> None:
        """Start the sandbox and the agent in it; with ``prompt``, send it.

        Raises:
            ConfigError: What was asked for makes no sense.
            UnsupportedError: An option that the sandbox's SDK lacks, by name.
            SandboxStartError: It was not ready within ``limits.start``.
            BootstrapError: The sandbox cannot run the SDK; the message says what is missing.
            claude_agent_sdk.CLIConnectionError, ProcessError ...: As from ClaudeSDKClient.
        """
        if self._life is not None:
            raise ConfigError("this HostedAgent is connected already")
        if prompt is not None and self._observes:
            raise _observer_steers()
        plan = make_plan(
            options=self._options,
            provider=self._provider,
            sandbox=self._sandbox,
            spec=self._spec,
            workspace=self._workspace,
            credentials=self._credentials,
            limits=self._limits,
            defaults=self._defaults,
            on_progress=self._on_progress,
            ack=self._ack,
            attachment=self._attachment,
            audit=self._audit,
        )
        life = self._life = AgentLife(plan)
        try:
            await life.start()
            if isinstance(prompt, str):
                await self.query(prompt)
            elif prompt is not None:
                life.feed(prompt, "default")
        except BaseException:
            await self._close(life)
            raise
        life.take_over()

    async def disconnect(self) -> None:
        """Interrupt, end the agent and what was made for it. Idempotent; bounded; any task may call it."""
        life = self._life
        if life is not None:
            await self._close(life)
            if life.error is not None:
                raise life.error

    async def _close(self, life: AgentLife) -> None:
        try:
            await life.finish()
        finally:
            if life.journal is not None:
                self._last = (life.journal.usage, life.journal.session_id, life.journal.cursor)
            if self._life is life:
                self._life = None

    async def detach(self, *, keep_for: float | None = None) -> AgentRef:
        """Leave the agent running and return what another process needs to attach to it.

        Prompts that were sent have arrived. What the agent asks meanwhile waits, its model requests too (see
        ``Limits.host_away``). The sandbox ends at its own end whatever happens.

        Args:
            keep_for: Seconds after which the sandbox ends unless a driver has come. None: its own end.

        Raises:
            UnsupportedError: The sandbox ends before ``keep_for`` is over, or is no provider's of agenthost;
                nothing has changed.
            LinkLostError: The sandbox cannot be reached.
        """
        life = self._living()
        await life.stay(None if self._observes else keep_for)
        ref = self._ref = life.ref()
        await self._close(life)
        return ref

    async def ack(self, cursor: Cursor) -> None:
        """With ``ack="manual"``: say that what lies before a cursor will never be asked for again.

        Raises:
            ConfigError: The cursor lies beyond what was read.
        """
        journal_of(self._living()).acknowledge(cursor)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        life = self._life
        if exc is None or life is None:
            await self.disconnect()
            return
        await self._close(life)
        if life.error is not None:
            _log.error("the agent was not closed as it should: %s", life.error)

    # ---- conversation

    async def query(self, prompt: str | AsyncIterable[dict[str, Any]], session_id: str = "default") -> None:
        """Send a prompt; returns when it is on its way. Prompts are answered in order.

        Args:
            prompt: Text, or message dicts as for ClaudeSDKClient, each sent as it comes.
            session_id: Set on messages that have none.
        """
        life = self._living()
        if isinstance(prompt, str):
            await self._send(life, life.send_prompt(prompt, session_id))
            return
        async for message in prompt:
            await self._send(life, life.send_prompt([{"session_id": session_id, **message}], session_id))

    async def finish_input(self) -> None:
        """Announce that no prompt will follow. The agent ends by itself when all are answered.

        The last messages are then followed by the end of ``receive_messages``; where the last result is an
        error, by ResultError, as from ``claude_agent_sdk.query``.
        """
        life = self._living()
        await self._send(life, life.finish_input())

    def receive_messages(self) -> AsyncIterator[Message]:
        """Iterate over messages as they come, until the agent ends.

        A message is given to one reader. Asking for the next one says that the one before was dealt with.
        Not reading stalls the agent in the end, not the host's memory. A message of a class that this
        host's SDK lacks arrives as an ``agenthost.wire.codec.UnknownObject``.

        Raises:
            claude_agent_sdk.ProcessError: The CLI died; with its exit code and the end of its stderr.
            IncompleteTurnError: The CLI ended without a ResultMessage for a prompt.
            LinkLostError, GuestLostError, SandboxGoneError: The sandbox cannot be reached, or is gone.
        """
        return Messages(self._living(), until_result=False)

    def receive_response(self) -> AsyncIterator[Message]:
        """Iterate over messages up to and including the next ResultMessage. Raises as receive_messages."""
        return Messages(self._living(), until_result=True)

    # ---- control

    async def interrupt(self) -> None:
        """Interrupt the running turn; its ResultMessage follows."""
        await self._call("interrupt")

    async def set_permission_mode(self, mode: PermissionMode) -> None:
        """Change the permission mode."""
        refuses = mode == "bypassPermissions" and self._defaults.refuse_unisolated_bypass
        if refuses and (sandbox := self.sandbox).capabilities.isolation == "none":
            raise ConfigError(
                f"bypassPermissions on provider {sandbox.provider!r}, which isolates nothing; see "
                "SafeDefaults.refuse_unisolated_bypass"
            )
        with self._living().authority.changing_mode(mode):
            await self._call("set_permission_mode", mode=mode)

    async def set_model(self, model: str | None = None) -> None:
        """Change the model; None is the CLI's default. The agent may ask it from now on."""
        self._living().allow_model(model)
        await self._call("set_model", model=model)

    async def rewind_files(self, user_message_id: str) -> None:
        """Bring files back to where they were at a user message; needs ``enable_file_checkpointing``."""
        await self._call("rewind_files", user_message_id=user_message_id)

    async def reconnect_mcp_server(self, server_name: str) -> None:
        """Connect an MCP server anew."""
        await self._call("reconnect_mcp_server", server_name=server_name)

    async def toggle_mcp_server(self, server_name: str, enabled: bool) -> None:
        """Switch an MCP server on or off."""
        await self._call("toggle_mcp_server", server_name=server_name, enabled=enabled)

    async def stop_task(self, task_id: str) -> None:
        """Stop a running task."""
        await self._call("stop_task", task_id=task_id)

    async def get_mcp_status(self) -> McpStatusResponse:
        """Return the state of each MCP server."""
        return cast("McpStatusResponse", await self._call("get_mcp_status"))

    async def get_context_usage(self) -> ContextUsageResponse:
        """Return what fills the context window."""
        return cast("ContextUsageResponse", await self._call("get_context_usage"))

    async def get_server_info(self) -> dict[str, Any] | None:
        """Return what the CLI told of itself at the start: commands, models, output styles."""
        return cast("dict[str, Any] | None", await self._call("get_server_info"))

    async def _call(self, method: str, **params: Any) -> Any:
        life = self._living()
        journal = journal_of(life)
        seconds = life.call_timeout
        number = journal.open_call()
        try:
            with anyio.fail_after(seconds):
                encoded = life.codec.encode(params)
                await self._send(life, life.send_call(number, method, encoded))
                reply = await journal.reply(number)
        except TimeoutError as error:
            raise CallTimeoutError(
                f"the agent did not answer {method} within {seconds:g} s: its runner may be stopped. Call it "
                "again, or leave the block, which ends the agent by force; Limits.call_timeout sets "
                "the time"
            ) from error
        finally:
            journal.close_call(number)
        if reply is None:
            raise _ended(life)
        return read_reply(reply, life)

    @property
    def _observes(self) -> bool:
        return self._attachment is not None and self._attachment.role == "observer"

    async def _send(self, life: AgentLife, sending: Coroutine[Any, Any, None]) -> None:
        journal = journal_of(life)
        if self._observes:
            sending.close()
            raise _observer_steers()
        if journal.ended:
            sending.close()
            raise _ended(life)
        try:
            await sending
        except BrokenPipeError:
            with contextlib.suppress(AgentError):  # it lies too far behind what nobody has read
                await journal.wait_end()
            raise _ended(life) from None

    # ---- what there is

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox, to run programs in it and read its files."""
        life = self._living()
        if life.sandbox is None:
            raise AgentError("the sandbox is not there yet")
        return life.sandbox

    @property
    def ref(self) -> AgentRef:
        """What another process needs to attach to this agent, as of now; later, what ``detach`` returned."""
        if self._life is None and self._ref is not None:
            return self._ref
        return self._living().ref()

    @property
    def cursor(self) -> Cursor:
        """The place behind the last message that was read; kept after the end."""
        journal = self._life.journal if self._life else None
        return journal.cursor if journal else self._last[2]

    @property
    def session_id(self) -> str | None:
        """The session's id, once the agent has said it: with its first message."""
        journal = self._life.journal if self._life else None
        return journal.session_id if journal else self._last[1]

    @property
    def usage(self) -> Usage:
        """What was used so far; kept after the end."""
        journal = self._life.journal if self._life else None
        return journal.usage if journal else self._last[0]

    async def download(
        self,
        target: str | os.PathLike[str],
        source: str | None = None,
        *,
        ignore: Ignore | Sequence[str] | None = None,
    ) -> Downloaded:
        """Copy a directory of the sandbox to this machine.

        Args:
            target: A directory, made if needed. Files in it that have the same names are replaced.
            source: A directory of the sandbox; None is its working directory.
            ignore: What is left out, as patterns of a .gitignore; nothing by default.

        Returns:
            How much was written, and the names of what was refused: nothing outside of ``target`` is
            written, whatever the sandbox has packed.

        Raises:
            OSError: FileNotFoundError, PermissionError ... with the path, of either side.
            ConfigError: A pattern is not valid.
            DownloadError: It is more than is taken from a sandbox; see ``agenthost.files`` for the limits.
        """
        life = self._living()
        sandbox = life.sandbox
        if sandbox is None:
            raise AgentError("the sandbox is not there yet")
        return await download_dir(sandbox, source or sandbox.workdir, target, ignore=ignore)

    def _living(self) -> AgentLife:
        if self._life is None:
            raise loaded_sdk().CLIConnectionError("Not connected. Call connect() first.")
        return self._life


def _ended(life: AgentLife) -> Exception:
    """Return what a call on an agent that has ended raises."""
    error = life.end_error()
    if error is not None:
        return error
    return cast("Exception", loaded_sdk().CLIConnectionError("The agent has ended."))


def _observer_steers() -> ConfigError:
    return ConfigError("an observer only reads; attach with role='driver' to steer the agent")
