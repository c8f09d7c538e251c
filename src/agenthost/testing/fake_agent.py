"""FakeAgent: a HostedAgent for tests of programs that use one, without a sandbox, a CLI or a model."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

import anyio
import anyio.lowlevel
import claude_agent_sdk as sdk

from agenthost.agent.hosted import HostedAgent
from agenthost.agent.options import plain_options
from agenthost.agent.ref import AgentRef, Cursor
from agenthost.agent.usage import Usage
from agenthost.errors import ConfigError, UnsupportedError
from agenthost.files.ignore import Ignore
from agenthost.files.transfer import download_dir
from agenthost.files.values import Downloaded
from agenthost.sandbox import Capabilities, Sandbox
from agenthost.testing.fake_sandbox import FakeSandbox
from agenthost.testing.fake_turns import Asked, Item, Turn
from agenthost.testing.scripted_model import ScriptError

if TYPE_CHECKING:
    from claude_agent_sdk import (
        ClaudeAgentOptions,
        ContextUsageResponse,
        McpStatusResponse,
        Message,
        PermissionMode,
    )

    from agenthost.agent.security_report import SecurityReport

Prompt: TypeAlias = str | dict[str, Any]
TurnScript: TypeAlias = "Sequence[Sequence[Item]] | Callable[[Prompt], Iterable[Item]]"

_ANSWERS: dict[str, Any] = {
    "get_mcp_status": {"mcpServers": []},
    "get_context_usage": {"categories": [], "totalTokens": 0, "maxTokens": 200_000, "percentage": 0.0},
    "get_server_info": {"commands": [], "models": []},
}


class FakeAgent(HostedAgent):
    """Plays a script where a HostedAgent is expected: the same methods, of the same semantics.

    Each prompt is answered by the next turn of the script. A turn is played as its messages are read, not
    ahead. It ends with a ResultMessage, which is added where the script has none. Nothing is checked that
    only a sandbox can tell: paths in options, versions, keys.

    Attributes:
        prompts: What it was asked, in its order: texts, and message dicts.
        calls: Every call of a method but the reading ones: its name and arguments.
        asked: What it asked the functions of the options, and their answers.
    """

    def __init__(
        self,
        script: TurnScript = (),
        *,
        options: ClaudeAgentOptions | dict[str, Any] | None = None,
        session_id: str = "fake-session",
        sandbox: Sandbox | None = None,
        answers: Mapping[str, Any] | None = None,
    ) -> None:
        """Make one.

        Args:
            script: For each prompt a list of what comes: SDK messages, texts, ``ToolCall``, ``HookCall``, an
                exception that the reader gets and that ends the agent, ``Hold`` and ``Stall`` (until it is
                interrupted). Or a function from a prompt to such a list.
            options: Whose functions it asks.
            session_id: Of its messages.
            sandbox: What ``agent.sandbox`` is; None is a FakeSandbox.
            answers: What calls return, by method; an exception is raised. ``connect`` and ``query`` too.
        """
        super().__init__(options)
        self.prompts: list[Prompt] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.asked: list[Asked] = []
        self._script = script if callable(script) else iter(list(script))
        self._plain = plain_options(options)
        self._id = session_id
        self._box: Sandbox = sandbox or FakeSandbox(capabilities=Capabilities(isolation="namespaces"))
        self._answers = {**_ANSWERS, **(answers or {})}
        self._ids = itertools.count(1)
        self._connected = False
        self._over = False
        self._finishing = False
        self._stream: AsyncIterator[dict[str, Any]] | None = None
        self._waiting: deque[Prompt] = deque()
        self._turn: Turn | None = None
        self._failure: Exception | None = None
        self._changed = anyio.Event()
        self._reading: anyio.Lock | None = None
        self._seen = 0
        self._result: sdk.ResultMessage | None = None
        self._sums = Usage()

    def __repr__(self) -> str:
        return f"<FakeAgent {'connected' if self._connected else 'not connected'}>"

    # ---- life

    async def connect(self, prompt: str | AsyncIterable[dict[str, Any]] | None = None) -> None:
        """Begin. See HostedAgent.connect."""
        if self._connected:
            raise ConfigError("this HostedAgent is connected already")
        await self._call("connect", prompt=prompt)
        self._connected, self._reading = True, anyio.Lock()
        if isinstance(prompt, str):
            self._ask(prompt)
        elif prompt is not None:
            self._stream = aiter(prompt)

    async def disconnect(self) -> None:
        """End. See HostedAgent.disconnect."""
        if self._connected:
            self._connected = False
            self._end()
            await self._call("disconnect")

    def security_report(self) -> SecurityReport:
        """Refuse: a fake agent has no sandbox to judge."""
        raise UnsupportedError("a FakeAgent has no security report: ask HostedAgent for one")

    async def detach(self, *, keep_for: float | None = None) -> AgentRef:
        """Let it be. See HostedAgent.detach; the ref leads nowhere."""
        self._connection()
        await self._call("detach", keep_for=keep_for)
        ref = self.ref
        self._connected = False
        self._end()
        return ref

    async def ack(self, cursor: Cursor) -> None:
        """Say what was read. See HostedAgent.ack."""
        self._connection()
        await self._call("ack", cursor=cursor)
        if cursor.seq > self._seen:
            raise ConfigError(f"cursor {cursor} lies beyond what was read")

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.disconnect()

    # ---- conversation

    async def query(self, prompt: str | AsyncIterable[dict[str, Any]], session_id: str = "default") -> None:
        """Ask. See HostedAgent.query."""
        self._check()
        await self._call("query", prompt=prompt, session_id=session_id)
        if isinstance(prompt, str):
            self._ask(prompt)
            return
        async for message in prompt:
            self._ask({"session_id": session_id, **message})

    async def finish_input(self) -> None:
        """Announce that no prompt will follow. See HostedAgent.finish_input."""
        self._check()
        await self._call("finish_input")
        self._finishing = True
        self._tell()

    def receive_messages(self) -> AsyncIterator[Message]:
        """Iterate until the agent ends. See HostedAgent.receive_messages."""
        self._connection()
        return _Messages(self._next, until_result=False)

    def receive_response(self) -> AsyncIterator[Message]:
        """Iterate up to the next ResultMessage. See HostedAgent.receive_response."""
        self._connection()
        return _Messages(self._next, until_result=True)

    # ---- control

    async def interrupt(self) -> None:
        """Interrupt the running turn; a ResultMessage with ``error_during_execution`` follows."""
        self._check()
        await self._call("interrupt")
        if self._turn is None and self._waiting:
            self._start_turn()
        if self._turn is not None:
            self._turn.interrupt()

    async def set_permission_mode(self, mode: PermissionMode) -> None:
        """Change the permission mode."""
        self._check()
        await self._call("set_permission_mode", mode=mode)
        self._plain.fields["permission_mode"] = mode

    async def set_model(self, model: str | None = None) -> None:
        """Change the model."""
        self._check()
        await self._call("set_model", model=model)

    async def rewind_files(self, user_message_id: str) -> None:
        """Bring files back."""
        self._check()
        await self._call("rewind_files", user_message_id=user_message_id)

    async def reconnect_mcp_server(self, server_name: str) -> None:
        """Connect an MCP server anew."""
        self._check()
        await self._call("reconnect_mcp_server", server_name=server_name)

    async def toggle_mcp_server(self, server_name: str, enabled: bool) -> None:
        """Switch an MCP server on or off."""
        self._check()
        await self._call("toggle_mcp_server", server_name=server_name, enabled=enabled)

    async def stop_task(self, task_id: str) -> None:
        """Stop a running task."""
        self._check()
        await self._call("stop_task", task_id=task_id)

    async def get_mcp_status(self) -> McpStatusResponse:
        """Return what ``answers`` says."""
        self._check()
        return cast("McpStatusResponse", await self._call("get_mcp_status"))

    async def get_context_usage(self) -> ContextUsageResponse:
        """Return what ``answers`` says."""
        self._check()
        return cast("ContextUsageResponse", await self._call("get_context_usage"))

    async def get_server_info(self) -> dict[str, Any] | None:
        """Return what ``answers`` says."""
        self._check()
        return cast("dict[str, Any] | None", await self._call("get_server_info"))

    # ---- what there is

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox: a FakeSandbox unless another was given."""
        self._connection()
        return self._box

    @property
    def ref(self) -> AgentRef:
        """A ref that leads nowhere."""
        return AgentRef(
            provider=self._box.provider,
            sandbox=self._box.id,
            sandbox_name=self._box.name,
            agent="fake-agent",
            session_id=self.session_id,
            cursor=self.cursor,
        )

    @property
    def cursor(self) -> Cursor:
        """The place behind the last message that was read."""
        return Cursor(self._seen, self._seen)

    @property
    def session_id(self) -> str | None:
        """The session's id, once a message was read."""
        return self._id if self._seen else None

    @property
    def usage(self) -> Usage:
        """Sums of the results that were read."""
        return self._sums

    async def download(
        self,
        target: str | os.PathLike[str],
        source: str | None = None,
        *,
        ignore: Ignore | Sequence[str] | None = None,
    ) -> Downloaded:
        """Copy a directory of the sandbox to this machine. See HostedAgent.download."""
        self._connection()
        await self._call("download", target=target, source=source, ignore=ignore)
        return await download_dir(self._box, source or self._box.workdir, target, ignore=ignore)

    # ---- the script

    async def _call(self, method: str, **params: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        self.calls.append((method, params))
        answer = self._answers.get(method)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _connection(self) -> None:
        if not self._connected:
            raise sdk.CLIConnectionError("Not connected. Call connect() first.")

    def _check(self) -> None:
        self._connection()
        if self._over:
            raise self._failure or sdk.CLIConnectionError("The agent has ended.")

    def _ask(self, prompt: Prompt) -> None:
        self.prompts.append(prompt)
        self._waiting.append(prompt)
        self._tell()

    def _end(self) -> None:
        self._over = True
        if self._turn is not None:
            self._turn.interrupt()
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _items(self, prompt: Prompt) -> Iterable[Item]:
        if callable(self._script):
            return self._script(prompt)
        for items in self._script:
            return items
        raise ScriptError(f"the script has no turn left for the prompt {prompt!r}")

    async def _next(self) -> Message | None:
        """Return the next message, None at the agent's end."""
        await anyio.lowlevel.checkpoint()
        if self._reading is None:
            return None
        async with self._reading:
            while True:
                if self._turn is None and not await self._begin_turn():
                    return None
                if self._turn is not None:
                    break
            try:
                message = await self._turn.next()
            except Exception as error:
                self._turn, self._failure, self._over = None, error, True
                raise
        if self._over:
            return None  # it was ended while somebody read
        self._seen += 1
        if isinstance(message, sdk.ResultMessage):
            self._turn, self._result = None, message
            told = {"num_turns": message.num_turns, "total_cost_usd": message.total_cost_usd}
            self._sums = self._sums.plus({**told, "model_usage": message.model_usage})
        return message

    def _start_turn(self) -> None:
        prompt = self._waiting.popleft()
        self._turn = Turn(self._items(prompt), self._plain, self._id, self.asked, self._ids)

    async def _begin_turn(self) -> bool:
        """Take up the next prompt. Returns False when there will be none."""
        if self._over:
            if self._failure is not None:
                raise self._failure
            return False
        if self._waiting:
            self._start_turn()
        elif self._stream is not None:
            try:
                self._ask({"session_id": "default", **await anext(self._stream)})
            except StopAsyncIteration:
                self._stream, self._finishing = None, True
        elif self._finishing:
            self._over = True
            if self._result is not None and self._result.is_error:
                self._failure = sdk.ResultError(
                    f"the last result is an error: {self._result.subtype}", vars(self._result), 1
                )
        else:
            await self._changed.wait()
        return True


class _Messages:
    def __init__(self, next_message: Callable[[], Any], *, until_result: bool) -> None:
        self._next = next_message
        self._until_result = until_result
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        message = None if self._over else await self._next()
        if message is None:
            self._over = True
            raise StopAsyncIteration
        self._over = self._until_result and isinstance(message, sdk.ResultMessage)
        return cast("Message", message)

    async def aclose(self) -> None:
        """End the iteration. The messages that were not read stay for another reader."""
        self._over = True
