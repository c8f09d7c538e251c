"""An in-process MCP server, served to an agent whose messages come over the link."""

from __future__ import annotations

import contextlib
import importlib
import logging
from typing import Any

import anyio
import anyio.abc

from agenthost.agent.user_code import of_user

_log = logging.getLogger("agenthost.agent")

Message = dict[str, Any]

_METHOD_NOT_FOUND = -32601  # JSON-RPC's number: what a client answers that does not support a request
_OWN_HANDSHAKE = "agenthost-handshake"
_TELL_SECONDS = 1.0  # a server that reads nothing is not waited for


class ServerStoppedError(Exception):
    """The server has ended, and answers nothing any more."""


class _Waiter:
    __slots__ = ("answer", "event")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.answer: Message | None = None


class McpServer:
    """One session with one server object, over MCP's own in-memory streams. ``run`` must be running."""

    def __init__(self, name: str, instance: Any) -> None:
        self._name = name
        self._instance = instance
        self._write: Any = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._waiting: dict[Any, _Waiter] = {}
        self._ready = anyio.Event()
        self._greeted = False
        self._greeting = anyio.Lock()
        self._failure: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether it has ended: it answers nothing any more, and a new handshake wants a new session."""
        return self._failure is not None

    async def run(self) -> None:
        """Serve until cancelled, or until the server ends by itself. Does not raise."""
        memory: Any = importlib.import_module("mcp.shared.memory")
        try:
            async with memory.create_client_server_memory_streams() as (client, server):
                read, self._write = client
                async with anyio.create_task_group() as tasks:
                    self._tasks = tasks
                    tasks.start_soon(self._serve, *server)
                    self._ready.set()
                    async for item in read:
                        self._take(item)
                    tasks.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - the server is the user's code; told to who asks it
            _log.exception("MCP server %r failed", self._name)
            cause: BaseException = error
            inner: list[Exception] = [error]
            while len(inner) == 1:  # a task group put it into a group
                cause = inner[0]
                inner = list(getattr(cause, "exceptions", ()))
            self._failure = str(cause) or type(cause).__name__
        finally:
            self._failure = self._failure or "its run() returned"
            self._ready.set()
            for waiter in tuple(self._waiting.values()):
                waiter.event.set()

    async def _serve(self, read: Any, write: Any) -> None:
        try:
            options = self._instance.create_initialization_options()
            await of_user(self._instance.run(read, write, options, raise_exceptions=False))
        finally:
            await write.aclose()

    async def handle(self, message: Message, handshake: Message | None) -> Message | None:
        """Give the server one message; returns its answer to a request, None for a notification.

        Args:
            message: JSON-RPC.
            handshake: With what the client introduced itself, perhaps to another host.

        Raises:
            ServerStoppedError: The server has ended.
        """
        await self._ready.wait()
        is_handshake = message.get("method") == "initialize"
        async with self._greeting:
            if is_handshake:
                answer = await self._request(message)
                await self._greet()
                return answer
            if not self._greeted:
                hello = {"jsonrpc": "2.0", "id": _OWN_HANDSHAKE, "method": "initialize", "params": handshake}
                await self._request(hello)
                await self._greet()
        if "id" in message:
            return await self._request(message)
        await self._send(message)
        return None

    async def _greet(self) -> None:
        self._greeted = True
        await self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def _request(self, message: Message) -> Message:
        number = message["id"]
        if number in self._waiting:
            raise ServerStoppedError(f"Request id {number!r} is already in flight")
        waiter = self._waiting[number] = _Waiter()
        try:
            await self._send(message)
            await waiter.event.wait()
        except anyio.get_cancelled_exc_class():
            await self._cancel(number)
            raise
        finally:
            self._waiting.pop(number, None)
        if waiter.answer is None:
            raise ServerStoppedError(f"SDK MCP server {self._name!r} stopped: {self._failure}")
        return waiter.answer

    async def _cancel(self, number: Any) -> None:
        """Tell the server that nobody waits for an answer any more."""
        if not hasattr(importlib.import_module("mcp.types"), "jsonrpc_message_adapter"):
            return  # a server of mcp 1 may stop whole when a cancelled handler answers after all
        reason = {"requestId": number, "reason": "the agent does not wait for it any more"}
        with anyio.move_on_after(_TELL_SECONDS, shield=True), contextlib.suppress(ServerStoppedError):
            await self._send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": reason})

    async def _send(self, message: Message) -> None:
        if self._failure is not None:
            raise ServerStoppedError(f"SDK MCP server {self._name!r} stopped: {self._failure}")
        await self._write.send(_session_message(message))

    def _take(self, item: Any) -> None:
        if isinstance(item, Exception):
            _log.debug("MCP server %r sent an error: %r", self._name, item)
            return
        message: Message = item.message.model_dump(by_alias=True, mode="json", exclude_none=True)
        if "method" not in message:
            waiter = self._waiting.get(message.get("id"))
            if waiter is not None:
                waiter.answer = message
                waiter.event.set()
        elif "id" in message:
            self._answer_server(message)

    def _answer_server(self, request: Message) -> None:
        """Answer what the server asks its client: as the SDK does, only a ping."""
        answer: Message = {"jsonrpc": "2.0", "id": request["id"]}
        if request["method"] == "ping":
            answer["result"] = {}
        else:
            text = f"{request['method']} is not supported for SDK servers"
            answer["error"] = {"code": _METHOD_NOT_FOUND, "message": text}
        assert self._tasks is not None
        self._tasks.start_soon(self._send, answer)  # the reader never waits for the server that it drains


def error_of_tool(message: Message, text: str) -> Message:
    """Return the answer to a ``tools/call`` that failed."""
    result = {"content": [{"type": "text", "text": text}], "isError": True}
    return {"jsonrpc": "2.0", "id": message.get("id"), "result": result}


def _session_message(message: Message) -> Any:
    """Make what MCP's streams carry; the class of the message within differs between its versions."""
    types: Any = importlib.import_module("mcp.types")
    adapter = getattr(types, "jsonrpc_message_adapter", None)
    if adapter is None:
        parsed = types.JSONRPCMessage.model_validate(message)
    else:
        parsed = adapter.validate_python(message, by_name=False)
    return importlib.import_module("mcp.shared.message").SessionMessage(parsed)
