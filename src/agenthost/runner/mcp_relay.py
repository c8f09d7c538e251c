"""An MCP server that lives on the host, as the SDK in the sandbox sees it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import logging
from typing import Any

from agenthost.runner.requests import HostError, Requests

# JSON-RPC's own number for what went wrong on the server's side, and the one that MCP's own transports give
# to a request that its client cancelled.
_INTERNAL_ERROR = -32603
_CANCELLED = -32800
_OUTCOME_UNKNOWN = (
    "The outcome of this tool call is unknown: the program that ran it went away before it had answered. "
    "It may have run, or not. Look before calling it again."
)

logger = logging.getLogger("agenthost.runner")

Message = dict[str, Any]


class RelayedServer:
    """Passes JSON-RPC messages to the server on the host, in place of a ``mcp.server.Server``.

    The host may change in between. Its server has then never met this client, so that each question carries
    the handshake with which the client introduced itself.
    """

    def __init__(self, name: str, requests: Requests) -> None:
        self._name = name
        self._requests = requests
        self._handshake: Message | None = None
        self._repeatable: set[str] = set()  # tools that say of themselves that they may run twice

    def create_initialization_options(self) -> None:
        """For the SDK, which hands the result to ``run``."""
        return

    async def run(self, read: Any, write: Any, _options: object = None, **_settings: object) -> None:
        """Serve a client until it closes its stream."""
        asking: dict[Any, asyncio.Task[None]] = {}
        try:
            async for item in read:
                message = _plain(item)
                number = message.get("id")
                if "method" not in message:
                    continue  # an answer to a question of the server: the SDK refuses those itself
                if number is not None:
                    task = asyncio.ensure_future(self._serve(message, write))
                    asking[number] = task
                    task.add_done_callback(functools.partial(_drop, asking, number))
                elif message["method"] == "notifications/cancelled":
                    running = asking.get(_record(message, "params").get("requestId"))
                    if running is not None:
                        running.cancel()
                elif message["method"] != "notifications/initialized":  # the host's own handshake says that
                    task = asyncio.ensure_future(self._tell(message))
                    asking[task] = task
                    task.add_done_callback(functools.partial(_drop, asking, task))
        finally:
            for task in tuple(asking.values()):
                task.cancel()
            await asyncio.gather(*asking.values(), return_exceptions=True)

    async def _serve(self, message: Message, write: Any) -> None:
        try:
            answer = await self._ask(message)
        except HostError as error:
            answer = {"error": {"code": _INTERNAL_ERROR, "message": str(error)}}
        except asyncio.CancelledError:
            await write.send(_session_message(_answer(message, error=_cancelled())))
            raise
        await write.send(_session_message({"jsonrpc": "2.0", **answer, "id": message["id"]}))

    async def _tell(self, message: Message) -> None:
        with contextlib.suppress(HostError):  # nobody waits for what becomes of a notification
            await self._requests.ask("mcp", server=self._name, message=message, handshake=self._handshake)

    async def _ask(self, message: Message) -> Message:
        method, parameters = message["method"], _record(message, "params")
        if method == "initialize":
            self._handshake = parameters
        once = method == "tools/call" and parameters.get("name") not in self._repeatable
        answer: Message = await self._requests.ask(
            "mcp",
            unknown=functools.partial(_unknown, message) if once else None,
            server=self._name,
            message=message,
            handshake=self._handshake,
        )
        if method == "tools/list":
            self._note_tools(_record(answer, "result"))
        return answer

    def _note_tools(self, listed: Message) -> None:
        for tool in listed.get("tools") or ():
            hints = _record(tool, "annotations")
            if hints.get("readOnlyHint") or hints.get("idempotentHint"):
                self._repeatable.add(tool["name"])
            else:
                self._repeatable.discard(tool["name"])


def _record(message: Message, key: str) -> Message:
    found: Message | None = message.get(key)
    return found or {}


def _answer(message: Message, **outcome: Any) -> Message:
    return {"jsonrpc": "2.0", "id": message["id"], **outcome}


def _unknown(message: Message) -> Message:
    text = [{"type": "text", "text": _OUTCOME_UNKNOWN}]
    return _answer(message, result={"content": text, "isError": True})


def _cancelled() -> Message:
    return {"code": _CANCELLED, "message": "Request cancelled"}


def _plain(item: Any) -> Message:
    made: Message = item.message.model_dump(by_alias=True, mode="json", exclude_unset=True)
    return made


def _session_message(message: Message) -> Any:
    """Make what MCP's streams carry; the class of the message within differs between its versions."""
    types: Any = importlib.import_module("mcp.types")
    adapter = getattr(types, "jsonrpc_message_adapter", None)
    if adapter is None:
        parsed = types.JSONRPCMessage.model_validate(message)
    else:
        parsed = adapter.validate_python(message, by_name=False)
    return importlib.import_module("mcp.shared.message").SessionMessage(parsed)


def _drop(asking: dict[Any, asyncio.Task[None]], key: Any, done: asyncio.Task[None]) -> None:
    asking.pop(key, None)
    if not done.cancelled() and done.exception() is not None:
        logger.debug("server %r's client has gone: %r", key, done.exception())
