"""Frames in both directions: events, questions to the SDK, answers to what the SDK asks."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any

from agenthost.testing.fake_program.about import option, sdk_servers, server_info

_MODEL = "claude-opus-fake"  # of a family that an agent may ask whose options name no model
_INTERRUPTED = {"subtype": "interrupted"}
_CLOSED = {"subtype": "error", "error": "Stream closed"}
_NOTHING_TO_DO = ("rewind_files", "mcp_reconnect", "mcp_toggle", "stop_task")


class InterruptedTurnError(Exception):
    """The SDK asked for the end of this turn."""


class Session:
    """One conversation. The main thread plays, another one reads stdin and answers what is asked."""

    def __init__(self) -> None:
        self.id = option("--session-id") or option("--resume") or str(uuid.uuid4())
        self.asks = option("--permission-prompt-tool") == "stdio"
        self.model = option("--model") or _MODEL
        self.mode = option("--permission-mode") or "default"
        self.hooks: dict[str, list[Any]] = {}
        self.servers: dict[str, Any] = {}
        self.prompts: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.controls: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.interrupted = threading.Event()
        self.given = self.played = 0  # prompts; each is counted in one thread
        self.deaf = False
        self.hang_up: Callable[[], object] | None = None  # ends a request to the model
        self._partial = "--include-partial-messages" in sys.argv
        self._events = 0
        self._numbers = 0
        self._pending: dict[str, queue.SimpleQueue[Any]] = {}
        self._closed = False
        self._writing = threading.RLock()

    # ---- stdout

    def write(self, value: Any) -> None:
        """Write one frame, or bytes as they are."""
        data = value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"
        with self._writing:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def emit(self, kind: str, **fields: Any) -> None:
        """Write an event: a message that the SDK hands to its user. Its uuid carries its number, from 1."""
        with self._writing:
            self._events += 1
            name = f"{self._events:08d}-fa4e-4c11-8000-{os.getpid():012x}"
            self.write({"type": kind, **fields, "uuid": name, "session_id": self.id})

    def assistant(self, *blocks: Any) -> None:
        """Write an assistant message."""
        message = {"role": "assistant", "model": self.model, "content": list(blocks)}
        self.emit("assistant", message=message, parent_tool_use_id=None)

    def user(self, content: Any) -> None:
        """Write a user message: the results of tools, or a mark."""
        self.emit("user", message={"role": "user", "content": content}, parent_tool_use_id=None)

    def stream(self, event: Any) -> None:
        """Write a partial message, if they are wanted."""
        if self._partial:
            self.emit("stream_event", event=event, parent_tool_use_id=None)

    def state(self, state: str) -> None:
        """Tell what the CLI is about. The SDK keeps it to itself, so it has no number."""
        if os.environ.get("CLAUDE_CODE_SDK_READS_SESSION_STATE"):
            frame = {"type": "system", "subtype": "session_state_changed", "state": state}
            self.write({**frame, "sdk_host_only": True, "uuid": str(uuid.uuid4()), "session_id": self.id})

    @property
    def busy(self) -> bool:
        """Whether a prompt has no result yet."""
        return self.given > self.played

    def number(self) -> int:
        """Return a number that no other request or tool of this session has."""
        self._numbers += 1
        return self._numbers

    # ---- stdin

    def read(self) -> None:
        """Take what the SDK says, to the end of stdin."""
        for line in sys.stdin.buffer:
            if self.deaf:
                threading.Event().wait()
            message = json.loads(line)
            if message["type"] == "user":
                self.given += 1
                self.prompts.put(message)
            elif message["type"] == "control_request":
                self._control(message["request_id"], message["request"])
            elif message["type"] == "control_response":
                answer = message["response"]
                waiting = self._pending.get(answer["request_id"])
                if waiting is not None:
                    waiting.put(answer)
        self._closed = True
        self.prompts.put(None)
        self.controls.put(None)
        for waiting in list(self._pending.values()):
            waiting.put(_CLOSED)

    def _control(self, name: str, request: Any) -> None:
        subtype = request["subtype"]
        made: Any = {}
        if subtype == "initialize":
            self.hooks = request.get("hooks") or {}
            made = server_info()
        elif subtype == "interrupt":
            self.interrupt()
        elif subtype == "set_model":
            self.model = request.get("model") or _MODEL
        elif subtype == "set_permission_mode":
            self.mode = request["mode"]
        elif subtype == "mcp_status":
            made = {"mcpServers": [self._status(server) for server in sdk_servers()]}
        elif subtype == "get_context_usage":
            made = {"categories": [], "totalTokens": 0, "maxTokens": 200_000, "percentage": 0}
        elif subtype not in _NOTHING_TO_DO:
            failed = {"subtype": "error", "error": f"Unsupported control request subtype: {subtype}"}
            self.write({"type": "control_response", "response": {**failed, "request_id": name}})
            return
        answer = {"subtype": "success", "request_id": name, "response": made}
        self.write({"type": "control_response", "response": answer})
        self.controls.put(subtype)

    def _status(self, server: str) -> Any:
        known = self.servers.get(server)
        about = {"name": server, "scope": "dynamic"}
        return {**about, "status": "pending"} if known is None else {**about, "status": "connected", **known}

    def interrupt(self) -> None:
        """End the turn that is played or begins next, and want no answer to what it has asked."""
        if self.busy:
            self.interrupted.set()
            for name, waiting in list(self._pending.items()):
                self.withdraw(name)
                waiting.put(_INTERRUPTED)
            self.controls.put(None)
            if self.hang_up is not None:
                self.hang_up()

    # ---- questions to the SDK

    def begin(self, subtype: str, **fields: Any) -> str:
        """Ask without waiting; returns the question's name."""
        name = f"fake-{os.getpid()}-{self.number()}"
        waiting = self._pending[name] = queue.SimpleQueue()
        if self._closed:
            waiting.put(_CLOSED)
        self.check()
        self.write({"type": "control_request", "request_id": name, "request": {"subtype": subtype, **fields}})
        return name

    def end(self, name: str) -> Any:
        """Wait for an answer.

        Raises:
            InterruptedTurnError: The turn was interrupted instead.
            RuntimeError: The SDK says that it failed, or is gone.
        """
        answer = self._pending[name].get()
        self.forget(name)
        if answer is _INTERRUPTED:
            raise InterruptedTurnError
        if answer["subtype"] != "success":
            raise RuntimeError(answer["error"])
        return answer.get("response") or {}

    def ask(self, subtype: str, **fields: Any) -> Any:
        """Ask and wait."""
        return self.end(self.begin(subtype, **fields))

    def withdraw(self, name: str) -> None:
        """Tell the SDK that no answer is wanted any more."""
        self.write({"type": "control_cancel_request", "request_id": name})

    def forget(self, name: str) -> None:
        """Take no answer any more."""
        self._pending.pop(name, None)

    def check(self) -> None:
        """Raise InterruptedTurnError if the turn was interrupted."""
        if self.interrupted.is_set():
            raise InterruptedTurnError

    def wait_for(self, control: str) -> None:
        """Wait until the SDK has sent a control request of this kind since the last one waited for."""
        while True:
            got = self.controls.get()
            self.check()
            if got == control or (got is None and self._closed):
                return
