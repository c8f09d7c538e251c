"""One scenario: the same steps for ClaudeSDKClient and for HostedAgent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import anyio
from claude_agent_sdk import (
    ContextUsageResponse,
    McpStatusResponse,
    Message,
    PermissionMode,
    ResultMessage,
)

from agenthost.testing import FakeCLI, ModelRequest

Side = Literal["bare", "hosted"]
OF_THE_TESTS = ("AGENTHOST_TEST_RUN", "AGENTHOST_STATE_DIR")  # variables by which what is left is found
PLAIN = "local-unisolated"
LIMIT = 90.0  # seconds for one side; only a hang reaches it


class Client(Protocol):
    """What ClaudeSDKClient and HostedAgent have in common."""

    async def connect(self, prompt: Any = None) -> None: ...
    async def disconnect(self) -> None: ...
    async def query(self, prompt: Any, session_id: str = "default") -> None: ...
    def receive_messages(self) -> AsyncIterator[Message]: ...
    def receive_response(self) -> AsyncIterator[Message]: ...
    async def interrupt(self) -> None: ...
    async def set_permission_mode(self, mode: PermissionMode) -> None: ...
    async def set_model(self, model: str | None = None) -> None: ...
    async def rewind_files(self, user_message_id: str) -> None: ...
    async def reconnect_mcp_server(self, server_name: str) -> None: ...
    async def toggle_mcp_server(self, server_name: str, enabled: bool) -> None: ...
    async def stop_task(self, task_id: str) -> None: ...
    async def get_mcp_status(self) -> McpStatusResponse: ...
    async def get_context_usage(self) -> ContextUsageResponse: ...
    async def get_server_info(self) -> dict[str, Any] | None: ...


@dataclass(slots=True)
class Record:
    """All that one side showed of itself.

    Attributes:
        steps: What the scenario saw, in its order: messages, results of calls, exceptions.
        callbacks: What the scenario's functions were given and returned, in the order of their ends.
        warnings: What the SDK warned of.
        requests: What the model was asked.
    """

    steps: list[Any] = field(default_factory=list[Any])
    callbacks: list[Any] = field(default_factory=list[Any])
    warnings: list[Any] = field(default_factory=list[Any])
    requests: list[ModelRequest] = field(default_factory=list[ModelRequest])


class Run:
    """One scenario on one side, while it runs.

    Attributes:
        side: Which.
        work: The working directory, where the CLI runs.
        home: The home directory.
        client: The connected client, unless the scenario connects by itself.
        record: What was seen.
    """

    def __init__(self, side: Side, machine: Machine) -> None:
        self.side: Side = side
        self.machine = machine
        self.work = machine.work
        self.home = machine.home
        self.record = Record()
        self._client: Client | None = None
        self._events: dict[str, anyio.Event] = {}

    @property
    def client(self) -> Client:
        """The client that the scenario was connected with."""
        assert self._client is not None, "this scenario connects by itself"
        return self._client

    @client.setter
    def client(self, client: Client) -> None:
        self._client = client

    def event(self, name: str) -> anyio.Event:
        """Return an event of this side, by which script, callbacks and steps wait for each other."""
        return self._events.setdefault(name, anyio.Event())

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncGenerator[Client]:
        """Connect another client in the same place."""
        client = self.machine.make(options)
        await client.connect()
        try:
            yield client
        finally:
            await client.disconnect()

    async def ask(self, prompt: Any, client: Client | None = None) -> list[Message]:
        """Send a prompt, and record and return the messages of the answer."""
        asked = client or self.client
        await asked.query(prompt)
        return await self.response(asked)

    async def response(self, client: Client | None = None) -> list[Message]:
        """Record and return the messages up to the next result."""
        messages: list[Message] = []
        async for message in (client or self.client).receive_response():
            self.see(message)
            messages.append(message)
        return messages

    async def until(self, wanted: Callable[[Message], bool], client: Client | None = None) -> list[Message]:
        """Record and return messages up to the first that is wanted, across results."""
        messages: list[Message] = []
        stream = (client or self.client).receive_messages()
        async for message in stream:
            self.see(message)
            messages.append(message)
            if wanted(message):
                break
        await getattr(stream, "aclose", _nothing)()
        return messages

    async def call(self, method: str, *args: Any, client: Client | None = None, **named: Any) -> Any:
        """Call a method of the client, record what it returns or raises, and return what it returns."""
        try:
            result = await getattr(client or self.client, method)(*args, **named)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other side must raise the same
            self.see({"what": f"{method} raised", "error": error})
            return None
        self.see({"what": f"{method} returned", "value": result})
        return result

    async def wait_for_servers(self) -> None:
        """Return when no MCP server is connecting any more: the first turn does not wait for all of them."""
        while True:
            found = await self.client.get_mcp_status()
            if all(server["status"] != "pending" for server in found["mcpServers"]):
                return

    async def attempt(self, what: str, work: Awaitable[object]) -> None:
        """Await something, and record what it raises."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever it is, the other side must raise the same
            self.see({"what": f"{what} raised", "error": error})

    async def one_shot(self, prompt: Any, **options: Any) -> None:
        """Record the messages of ``query()``, and the exception in which it ends."""

        async def read() -> None:
            async for message in self.machine.query(prompt, options):
                self.see(message)

        await self.attempt("query()", read())

    async def refused(self, **options: Any) -> None:
        """Record the exception with which a client does not connect."""

        async def connect() -> None:
            async with self.open(**options):
                self.see("it connected")

        await self.attempt("connect", connect())

    async def all_there_is(self, client: Client) -> None:
        """Record messages until there are no more, the exception in which they end, and what comes after."""
        end: dict[str, Any] = {"what": "end of the messages", "error": None, "asked again": "nothing more"}
        try:
            await self.until(lambda _: False, client)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other side must raise the same
            end["error"] = error
        try:
            await self.until(lambda _: False, client)
        except Exception:  # noqa: BLE001 - only whether there is one
            end["asked again"] = "the error again"
        self.see(end)

    async def program(self, cli: FakeCLI) -> str:
        """Put a CLI of the script into the home directory, and return its path."""
        return await self.machine.write(f"{self.home}/claude", cli.source(), mode=0o755)

    def see(self, what: Any) -> None:
        """Record something that must be the same on both sides."""
        self.record.steps.append(what)

    def note(self, what: str, given: Any, returned: Any = None) -> None:
        """Record what a callback was given and returned."""
        self.record.callbacks.append({"what": what, "given": given, "returned": returned})

    async def write(self, path: str, text: str) -> str:
        """Write a file below the working directory, and return its absolute path."""
        return await self.machine.write(f"{self.work}/{path}", text.encode())

    async def forget_sessions(self) -> None:
        """Remove the CLI's own session files, as a fresh machine has none."""
        await self.machine.remove(f"{self.home}/.claude/projects")

    async def see_file(self, path: str) -> None:
        """Record what a file below the working directory holds."""
        self.see({"what": f"file {path}", "value": await self.machine.read(f"{self.work}/{path}")})


class Machine(Protocol):
    """Where a scenario runs: the bare SDK on this machine, or agenthost with its sandbox."""

    work: str
    home: str
    url: str  # of the model

    def make(self, options: dict[str, Any]) -> Client: ...
    def query(self, prompt: Any, options: dict[str, Any]) -> AsyncIterator[Message]: ...
    async def write(self, path: str, data: bytes, *, mode: int = 0o644) -> str: ...
    async def read(self, path: str) -> str | None: ...
    async def remove(self, path: str) -> None: ...


Steps: TypeAlias = Callable[[Run], Awaitable[None]]
Options: TypeAlias = Mapping[str, Any] | Callable[[Run], Mapping[str, Any]]
Script: TypeAlias = Sequence[Any] | Callable[[Run], Sequence[Any] | Callable[[ModelRequest], Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is done on both sides, and what it covers.

    Attributes:
        name: A sentence.
        covers: Names of the inventory.
        steps: What is done with the client.
        script: What the model says; or a function that makes it for one side.
        options: Fields of ClaudeAgentOptions; or a function that makes them for one side.
        files: What lies below the working directory before the start.
        connects: Whether a client is connected before the steps; else they do it.
        on: The providers that it runs on.
        trio: Whether it runs on trio, too.
        played: False when steps of the script may be left over.
        shows: What must be found in the record, as JSON: without it the scenario would prove nothing.
        masks: Names of the differences that are meant to be here; each must be found.
    """

    name: str
    covers: frozenset[str]
    steps: Steps
    script: Script
    options: Options
    files: Mapping[str, str]
    connects: bool
    on: tuple[str, ...]
    trio: bool
    played: bool
    shows: tuple[str, ...]
    masks: frozenset[str]


TABLE: list[Scenario] = []


def scenario(
    covers: str,
    *,
    script: Script = (),
    options: Options | None = None,
    files: Mapping[str, str] | None = None,
    connects: bool = True,
    on: tuple[str, ...] = (PLAIN,),
    trio: bool = False,
    played: bool = True,
    shows: tuple[str, ...] = (),
    masks: Iterable[str] = (),
) -> Callable[[Steps], Steps]:
    """Put steps into the table. Their function's name is the scenario's; the rest is as in Scenario."""

    def add(steps: Steps) -> Steps:
        made = Scenario(
            name=getattr(steps, "__name__", "").replace("_", " ").strip(),
            covers=frozenset(covers.split()),
            steps=steps,
            script=script,
            options=options or {},
            files=files or {},
            connects=connects,
            on=on,
            trio=trio,
            played=played,
            shows=shows,
            masks=frozenset(masks),
        )
        TABLE.append(made)
        return steps

    return add


async def one_answer(run: Run) -> None:
    """Ask once: the steps of every scenario that differs in its options only."""
    await run.ask("Go on.")


def is_result(message: Message) -> bool:
    """Tell whether a message ends a turn."""
    return isinstance(message, ResultMessage)


async def _nothing() -> None:
    """Stand in where there is nothing to close."""
