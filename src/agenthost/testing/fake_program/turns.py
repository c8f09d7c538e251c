"""Turns: what the steps of a script do."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from agenthost.testing.fake_program.about import VERSION, transcript
from agenthost.testing.fake_program.session import InterruptedTurnError, Session
from agenthost.testing.fake_program.tools import call_hooks, connect_servers, use_tools

_STEPS: dict[str, Callable[..., None]] = {}


def _step(function: Callable[..., None]) -> Callable[..., None]:
    _STEPS[function.__name__] = function
    return function


class Player:
    """Plays one turn after the other."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.prompt: Any = {}
        self.result: Any = {}
        self.failed = False
        self.leaving: int | None = None  # the exit code of a program that leaves after this turn
        self.children: list[int] = []

    def turn(self, prompt: Any, turns: Iterator[list[Any]]) -> None:
        """Play what a prompt asks for, or else the next turn of the script, or else an echo."""
        session = self.session
        self.prompt, self.result = prompt, {}
        session.state("running")
        try:
            connect_servers(session)
            call_hooks(session, "UserPromptSubmit", prompt=_text_of(prompt))
            at = session.servers.items()
            tools = [f"mcp__{name}__{tool['name']}" for name, server in at for tool in server["tools"]]
            servers = [{"name": name, "status": "connected"} for name in session.servers]
            about = {"cwd": os.getcwd(), "tools": tools, "mcp_servers": servers, "model": session.model}
            about.update(permissionMode=session.mode, claude_code_version=VERSION)
            session.emit("system", subtype="init", **about)
            self.play(_script_of(prompt) or next(turns, None) or [{"do": "text", "text": _text_of(prompt)}])
            call_hooks(session, "Stop", stop_hook_active=False)
        except InterruptedTurnError:
            session.user([{"type": "text", "text": "[Request interrupted by user]"}])
            ended = {"is_error": True, "terminal_reason": "aborted_streaming"}
            self.result = {"subtype": "error_during_execution", **ended}
        session.played += 1
        session.interrupted.clear()
        if self.result is not None:
            self.tell(self.result)
        session.state("idle")
        if self.leaving is not None:
            exit_with(self.leaving)

    def play(self, steps: list[Any]) -> None:
        """Play steps in order."""
        for one in steps:
            self.session.check()
            fields = dict(one)
            _STEPS[fields.pop("do")](self, **fields)

    def tell(self, fields: Any) -> None:
        """Emit a result that differs from that of a good turn in these fields."""
        made: dict[str, Any] = {"subtype": "success", "is_error": False, "result": "done", "num_turns": 1}
        made.update(duration_ms=1, duration_api_ms=1, stop_reason="end_turn", total_cost_usd=0.001, usage={})
        if self.prompt.get("uuid"):
            made["user_message_uuids"] = [self.prompt["uuid"]]
        made.update(fields)
        self.failed = bool(made["is_error"])
        self.session.emit("result", **made)


@_step
def text(player: Player, text: str) -> None:
    player.session.assistant({"type": "text", "text": text})


@_step
def partials(player: Player, count: int, size: int) -> None:
    for number in range(count):
        player.session.check()
        delta = {"type": "text_delta", "text": f"{number} ".ljust(size, ".")}
        player.session.stream({"type": "content_block_delta", "index": 0, "delta": delta})


@_step
def tools(player: Player, calls: list[Any]) -> None:
    named = [{**call, "id": call.get("id") or f"toolu_{player.session.number()}"} for call in calls]
    blocks = [{"type": "tool_use", **{key: call[key] for key in ("id", "name", "input")}} for call in named]
    player.session.assistant(*blocks)
    use_tools(player.session, named)


@_step
def hook(player: Player, event: str, input: Any) -> None:
    outputs = call_hooks(player.session, event, **input)
    player.session.emit("system", subtype="hook_outputs", event=event, outputs=outputs)


@_step
def mirror(player: Player, count: int, size: int) -> None:
    if "--session-mirror" in sys.argv:
        pad = "." * size
        entries = [
            {"type": "fake", "number": n, "uuid": str(uuid.uuid4()), "text": pad} for n in range(count)
        ]
        path = transcript(player.session.id)
        player.session.write({"type": "transcript_mirror", "filePath": path, "entries": entries})


@_step
def model(player: Player, prompt: str | None) -> None:
    # Imported here, because most scripts need no HTTP client and it takes as long as all else together.
    from agenthost.testing.fake_program.model import ModelFailedError, ask_model

    messages: list[Any] = [{"role": "user", "content": prompt or _text_of(player.prompt)}]
    try:
        while uses := _uses(blocks := ask_model(player.session, messages)):
            results = use_tools(player.session, [{**use, "ask": True} for use in uses])
            messages += [{"role": "assistant", "content": blocks}, {"role": "user", "content": results}]
    except ModelFailedError as error:
        said = f"API Error: {error}"
        player.session.assistant({"type": "text", "text": said})
        player.result = {"is_error": True, "result": said, "api_error_status": error.status}


def _uses(blocks: list[Any]) -> list[Any]:
    return [block for block in blocks if block["type"] == "tool_use"]


@_step
def until(player: Player, control: str) -> None:
    player.session.wait_for(control)


@_step
def wait(player: Player, seconds: float) -> None:
    player.session.interrupted.wait(seconds)
    player.session.check()


@_step
def stall(player: Player, deaf: bool) -> None:
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        player.session.deaf = True
        threading.Event().wait()
    player.session.interrupted.wait()
    player.session.check()


@_step
def raw(player: Player, data: str) -> None:
    player.session.write(data.encode("latin-1"))


@_step
def stderr(player: Player, text: str, times: int) -> None:  # noqa: ARG001 - every step has it
    for _ in range(times):
        sys.stderr.write(text + "\n")
    sys.stderr.flush()


@_step
def spawn(player: Player, argv: list[str], holds: bool) -> None:
    import subprocess

    null = subprocess.DEVNULL
    out = None if holds else null
    child = subprocess.Popen(argv, stdin=null, stdout=out, stderr=out, start_new_session=True)
    player.children.append(child.pid)


@_step
def report(player: Player, path: str) -> None:
    told: dict[str, Any] = {"argv": sys.argv, "env": dict(os.environ), "cwd": os.getcwd()}
    told.update(pid=os.getpid(), children=player.children, files=_files_named())
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(told, file)
    os.replace(path + ".new", path)


def _files_named() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for argument in sys.argv[1:]:
        if argument.startswith("/") and os.path.isfile(argument):
            modes = [oct(os.stat(at).st_mode & 0o777) for at in (argument, os.path.dirname(argument))]
            with open(argument, encoding="utf-8") as file:
                found[argument] = {"text": file.read(), "modes": modes}
    return found


@_step
def refuse(player: Player, errors: list[str]) -> None:
    sys.stdin.buffer.readline()
    player.tell({"subtype": "error_during_execution", "is_error": True, "result": None, "errors": errors})
    exit_with(1)


@_step
def leave(player: Player, code: int, after_result: bool) -> None:
    if not after_result:
        exit_with(code)
    player.leaving = code


def exit_with(code: int) -> None:
    """Exit at once with a code, or by the signal whose negative number it is."""
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


@_step
def result(player: Player, fields: Any) -> None:
    player.result = fields


def _text_of(prompt: Any) -> str:
    content = prompt["message"]["content"]
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


def _script_of(prompt: Any) -> Any:
    said = _text_of(prompt)
    return json.loads(said) if said.startswith('[{"do":') else None
