"""Answers what the agent asks: calls the functions of this process and sends what they return."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import anyio
import anyio.abc

from agenthost.agent.audit.trail import AuditTrail
from agenthost.agent.callbacks import STORE_QUESTIONS, Callbacks
from agenthost.agent.hook_timeouts import timeout_answer
from agenthost.agent.mcp_server import McpServer, Message, error_of_tool
from agenthost.agent.question_shape import check_question
from agenthost.agent.store import Append, StoreWriter
from agenthost.agent.tool_authority import ToolAuthority
from agenthost.agent.user_code import of_user
from agenthost.errors import AgentError, AgentHostError, ConfigError
from agenthost.log_once import LogOnce
from agenthost.wire.codec import Codec, place_of

_log = logging.getLogger("agenthost.agent")

_plain = Codec({})
_AT_ONCE = 256  # questions; the CLI asks one for each tool call that runs
# Bytes that the open questions of one agent may take together, as objects: the text of each, and 100 for each
# value in it. The largest single question that an agent can ask is half of it.
_AT_ONCE_BYTES = 128 * 1024 * 1024
_VALUE = 100  # bytes of a value, a little more than an empty dict and its place in a list take
# Ids and directories as the SDK makes them; what a store makes a path of must not lead elsewhere.
_KEY_FIELDS = frozenset({"project_key", "session_id", "subpath"})
_WORD = re.compile(r"(?!\.{1,2}\Z)[\w.@+-]{1,255}\Z")
_HOOK_SECONDS = 60.0  # the CLI's own timeout for a hook whose matcher names none

Event = Mapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Answers:
    """One agent's questions to this process. Each is answered in a task of its own.

    Args:
        callbacks: What may be asked for.
        send: Sends a line to the agent.
        codec: Returns the codec, once the SDK is here.
        authority: Decides which calls of in-process MCP tools may run.
        audit: Logs each answer before it is sent.
    """

    def __init__(
        self,
        callbacks: Callbacks,
        *,
        send: Send,
        codec: Callable[[], Awaitable[Codec]],
        authority: ToolAuthority,
        audit: AuditTrail | None = None,
    ) -> None:
        self._callbacks = callbacks
        self._send = send
        self._codec = codec
        self._authority = authority
        self._audit = audit or AuditTrail()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._scopes: dict[int, anyio.CancelScope] = {}
        self._weight = 0  # bytes of the open questions
        self._servers: dict[str, McpServer] = {}
        self._store = None if callbacks.store is None else StoreWriter(callbacks.store)
        self._epoch: int | None = None  # of the ``attached`` that has to come before anything is answered
        self._warnings = LogOnce(_log)

    @property
    def open(self) -> int:
        """How many questions are being answered now."""
        return len(self._scopes)

    @property
    def waits(self) -> bool:
        """Whether the agent's word that it takes this driver's answers is still to come."""
        return self._epoch is not None

    def start(self, tasks: anyio.abc.TaskGroup) -> None:
        """Answer from now on, in this task group."""
        self._tasks = tasks
        if self._store is not None:
            tasks.start_soon(self._store.run)

    async def settle(self) -> None:
        """Return when the session store has everything."""
        if self._store is not None:
            await self._store.settle()

    # ---- what the journal tells

    def wait_for(self, epoch: int) -> None:
        """Answer nothing before the agent has said that it takes this driver's answers."""
        self._epoch = epoch

    def attached(self, epoch: int) -> None:
        """The agent asks the driver of this epoch from here on."""
        if epoch == self._epoch:
            self._epoch = None

    def request(self, event: Event, *, size: int, values: int) -> None:
        """Begin to answer a question.

        Args:
            event: The question.
            size: Bytes of its text.
            values: How many values the text holds at most.

        Raises:
            AgentError: The agent asks too much at once.
        """
        number = event["id"]
        if self._epoch is not None or number in self._scopes or self._tasks is None:
            return
        missing = self._missing(event)
        if missing is not None:
            what = "the agent asks for %s, which this process does not have: it waits"
            self._warnings.warning(missing, what, missing)
            return
        if len(self._scopes) >= _AT_ONCE:
            raise AgentError(f"the agent asks more than {_AT_ONCE} questions at once")
        weight = size + _VALUE * values
        if self._weight + weight > _AT_ONCE_BYTES:
            raise AgentError(f"the open questions of the agent take more than {_AT_ONCE_BYTES >> 20} MiB")
        self._weight += weight
        scope = self._scopes[number] = anyio.CancelScope()
        self._tasks.start_soon(self._serve, number, event, scope, weight)

    def cancelled(self, number: int) -> None:
        """The agent does not want an answer any more."""
        scope = self._scopes.get(number)
        if scope is not None:
            scope.cancel()

    def turn_ended(self) -> None:
        """The agent is idle: what was approved for its turn is over soon."""
        self._authority.turn_ended()

    def stop(self) -> None:
        """The journal has ended: nobody takes an answer any more."""
        for scope in tuple(self._scopes.values()):
            scope.cancel()

    def append(self, event: Event, size: int) -> Append | None:
        """Have a batch written to the session store; None without one."""
        if self._store is None and self._epoch is not None:
            return None  # of a time before this driver: it went to the one that was there
        key = _plain.decode(event["key"])
        entries = _plain.decode(event["entries"])
        batch = cast("list[object]", entries) if isinstance(entries, list) else None
        append = Append(event["seq"], key, batch or [], size)
        if self._store is None:
            append.finish("this process has no session_store, and the agent has one")
        elif not _is_key(key) or batch is None:
            append.finish(f"{key!r:.200} is no key of a session, or what is to be stored is no list")
        else:
            self._store.append(append)
        return append

    # ---- answers

    async def _serve(self, number: int, event: Event, scope: anyio.CancelScope, weight: int) -> None:
        try:
            with scope:
                try:
                    try:
                        await self._send(self._logged(event, await self._answer(number, event)))
                    except ConfigError as error:  # too long to be sent
                        await self._send({"op": "answer", "id": number, "ok": False, "error": str(error)})
                except (AgentHostError, OSError) as error:
                    _log.debug("an answer could not be sent: %s", error)  # the journal tells why
        finally:
            self._scopes.pop(number, None)
            self._weight -= weight

    async def _answer(self, number: int, event: Event) -> dict[str, Any]:
        codec = await self._codec()
        try:
            answer = await self._ask(codec, event)
            result = codec.encode(answer, name="the answer")
            _refuse_not_finite(answer)
        except Exception as error:  # noqa: BLE001 - the user's code; as in the SDK its text is the answer
            _log.debug("%s raised: %r", event["what"], error)
            return {"op": "answer", "id": number, "ok": False, "error": str(error)}
        return {"op": "answer", "id": number, "ok": True, "result": result}

    def _logged(self, event: Event, answer: dict[str, Any]) -> dict[str, Any]:
        """Return an answer that is in the audit log; one that cannot be logged is not given."""
        try:
            self._audit.answered(event, answer)
        except AgentError as error:
            return {"op": "answer", "id": event["id"], "ok": False, "error": str(error)}
        return answer

    async def _ask(self, codec: Codec, event: Event) -> Any:
        check_question(event)
        match event["what"]:
            case "can_use_tool":
                return await self._can_use_tool(codec, event)
            case "hook":
                return await self._hook(codec, event)
            case "mcp":
                message = codec.decode(event["message"])
                if message.get("method") == "tools/call" and (refused := self._refusal(event, message)):
                    return refused
                server = self._server(event["server"], again=message.get("method") == "initialize")
                answer = await server.handle(message, codec.decode(event["handshake"]))
                self._note(event, message, answer)
                return answer
            case "store":
                return await self._load(codec, event)
            case what:
                raise ValueError(f"a question of kind {what!r:.200}")

    def _refusal(self, event: Event, message: Message) -> Message | None:
        """Return the answer to a tool call that may not run."""
        call: Message = message.get("params") or {}
        name, given = str(call.get("name")), call.get("arguments")
        reason = self._authority.refusal(event["server"], name, given, question=event["id"])
        return None if reason is None else error_of_tool(message, reason)

    def _note(self, event: Event, message: Message, answer: Message | None) -> None:
        """A tool that wants to know something first is called again, with what it wanted beside its input."""
        result: Message = (answer or {}).get("result") or {}  # of this process's own server
        if message.get("method") == "tools/call" and result.get("resultType") == "input_required":
            call: Message = message.get("params") or {}
            self._authority.go_on(event["server"], str(call.get("name")), call.get("arguments"))

    async def _can_use_tool(self, codec: Codec, event: Event) -> Any:
        function = self._callbacks.can_use_tool
        assert function is not None
        tool, given = event["tool_name"], codec.decode(event["input"])
        question = self._authority.question(tool, given)  # as it is now: the function may change it
        answer = await of_user(function(tool, given, codec.decode(event["context"])))
        question.permission(answer)
        return answer

    async def _hook(self, codec: Codec, event: Event) -> Any:
        matcher = self._callbacks.hooks[event["event"]][event["matcher"]]
        function = matcher.hooks[event["hook"]]
        seconds = matcher.timeout if matcher.timeout is not None else _HOOK_SECONDS
        given = codec.decode(event["input"])
        about = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
        question = self._authority.question(about.get("tool_name"), about.get("tool_input"))
        answer: Any = timeout_answer(event["event"], seconds)
        try:
            with anyio.move_on_after(seconds):
                answer = await of_user(function(given, event["tool_use_id"], {"signal": None}))
        except Exception as error:
            question.hook(event, error)
            raise
        question.hook(event, answer)
        return answer

    def _server(self, name: str, *, again: bool) -> McpServer:
        server = self._servers.get(name)
        if server is None or (again and server.stopped):
            assert self._tasks is not None
            server = self._servers[name] = McpServer(name, self._callbacks.servers[name]["instance"])
            self._tasks.start_soon(server.run)
        return server

    async def _load(self, codec: Codec, event: Event) -> Any:
        assert self._store is not None
        key = codec.decode(event["key"])
        if not _is_key(key):
            raise ValueError(f"{key!r:.200} is no key of a session")
        await self._store.settle()
        return await of_user(getattr(self._callbacks.store, event["method"])(key))

    def _missing(self, event: Event) -> str | None:
        """Return what this process does not have of what a question is for: it stays open for another."""
        callbacks = self._callbacks
        match event["what"]:  # whatever the sandbox may have made of it
            case "can_use_tool":
                return "can_use_tool" if callbacks.can_use_tool is None else None
            case "hook":
                matchers = callbacks.hooks.get(event["event"], [])
                found = 0 <= event["matcher"] < len(matchers)
                found = found and 0 <= event["hook"] < len(matchers[event["matcher"]].hooks)
                return None if found else f"hooks[{event['event']!r:.100}]"
            case "mcp":
                return (
                    None if event["server"] in callbacks.servers else f"mcp_servers[{event['server']!r:.100}]"
                )
            case "store":
                known = callbacks.store is not None and event["method"] in STORE_QUESTIONS
                return None if known else f"session_store.{event['method']!s:.100}"
            case what:
                return f"an answer of kind {what!r:.100}"


def _refuse_not_finite(answer: object) -> None:
    """Refuse NaN and the infinities: the CLI reads JSON, which does not have them, and would end.

    Raises:
        ValueError: It names the number and its place.
    """
    found: list[float] = []

    def is_not_finite(part: object) -> bool:
        if isinstance(part, float) and not math.isfinite(part):
            found.append(part)
        return bool(found)

    place = place_of(answer, is_not_finite)
    if place is not None:
        raise ValueError(f"the answer{place} is {found[0]!r}, a number that JSON does not have")


def _is_key(key: Any) -> bool:
    """Return whether this is what the SDK asks a store for: a project, or the key of a session."""
    if isinstance(key, str):
        return bool(_WORD.match(key))
    if not isinstance(key, dict) or not {"project_key", "session_id"} <= key.keys() <= _KEY_FIELDS:
        return False
    fields = cast("dict[str, Any]", key)
    words: list[Any] = [fields["project_key"], fields["session_id"]]
    words += str(fields.get("subpath", "x")).split("/")
    return all(isinstance(word, str) and _WORD.match(word) for word in words)
