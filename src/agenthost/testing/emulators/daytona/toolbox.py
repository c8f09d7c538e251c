"""Calls to the daemon inside a sandbox: programs, sessions and files."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, cast

from agenthost.background import BackgroundTasks
from agenthost.errors import AgentHostError, ExecTimeoutError
from agenthost.testing.emulators.base.streams import Streams
from agenthost.testing.emulators.daytona import websocket
from agenthost.testing.emulators.daytona.api import Call, Refusal
from agenthost.testing.emulators.daytona.boxes import HOME, DaytonaBox
from agenthost.testing.emulators.daytona.sessions import SHELL, Command, Session

ROUTES = {
    "POST /toolbox/{id}/process/execute": "execute",
    "POST /toolbox/{id}/process/session": "create_session",
    "GET /toolbox/{id}/process/session": "list_sessions",
    "GET /toolbox/{id}/process/session/{sid}": "get_session",
    "DELETE /toolbox/{id}/process/session/{sid}": "delete_session",
    "POST /toolbox/{id}/process/session/{sid}/exec": "start",
    "GET /toolbox/{id}/process/session/{sid}/command/{cid}": "get_command",
    "GET /toolbox/{id}/process/session/{sid}/command/{cid}/logs": "logs",
    "POST /toolbox/{id}/process/session/{sid}/command/{cid}/input": "send_input",
    "POST /toolbox/{id}/files/folder": "make_folder",
    "POST /toolbox/{id}/files/bulk-upload": "upload",
    "POST /toolbox/{id}/files/bulk-download": "download",
}
_RESERVED = "entrypoint"
_ONE_SHOT = "exec 2>&1; exec bash -s"  # its script is its input, too


class Toolbox:
    """Answers these calls.

    Args:
        box: Returns a sandbox that runs by its id, or refuses.
        tasks: Commands outlive the calls that start them.
        streams: The followed logs that are open.
    """

    def __init__(self, box: Callable[[Call], DaytonaBox], tasks: BackgroundTasks, streams: Streams) -> None:
        self._box = box
        self._tasks = tasks
        self._streams = streams

    async def execute(self, call: Call) -> tuple[int, object]:
        """Run a program to its end: output and errors as one text."""
        box, text = self._box(call), call.text("command")
        limit = call.integer("timeout", 0) or None
        env = cast("dict[str, str]", call.body.get("envs") or {})
        try:
            done = await box.machine.sandbox.exec(
                ["bash", "-c", _ONE_SHOT],
                stdin=text.encode(),
                env=env,
                cwd=call.body.get("cwd") or HOME,
                timeout=limit,
            )
        except ExecTimeoutError:
            raise Refusal(408, "command execution timeout", "PROCESS_EXECUTION_TIMEOUT") from None
        except (AgentHostError, OSError) as error:
            raise Refusal(400, f"the command was not started: {error}", "BAD_REQUEST") from None
        return 200, {"exitCode": done.exit_code, "result": done.stdout.decode(errors="replace")}

    async def create_session(self, call: Call) -> tuple[int, object]:
        """Make a session."""
        box, name = self._box(call), call.text("sessionId")
        if name in box.sessions or name == _RESERVED:
            raise Refusal(409, "session already exists", "CONFLICT")
        box.sessions[name] = Session(name)
        return 201, None

    async def list_sessions(self, call: Call) -> tuple[int, object]:
        """List the sessions with their commands."""
        return 200, [_describe(session) for session in self._box(call).sessions.values()]

    async def get_session(self, call: Call) -> tuple[int, object]:
        """Describe a session."""
        return 200, _describe(self._session(call))

    async def delete_session(self, call: Call) -> tuple[int, object]:
        """End a session, its commands and its logs."""
        session = self._session(call)
        del self._box(call).sessions[session.id]
        await session.end()
        return 204, None

    async def start(self, call: Call) -> tuple[int, object]:
        """Start a command; wait for its end unless that is not wanted."""
        box, session, text = self._box(call), self._session(call), call.text("command")
        is_async = bool(call.body.get("runAsync") or call.body.get("async"))
        if any(command.has_ended and command.code is None for command in session.commands.values()):
            raise Refusal(410, "session has ended", "SESSION_ENDED")
        command = await self._start(box, session, text, echoes=not call.body.get("suppressInputEcho"))
        if is_async:
            self._tasks.start_soon(command.follow)
            return 202, {"cmdId": command.id}
        with suppress(AgentHostError, OSError):
            await command.process.close_stdin()
        await command.follow()
        return 200, {"cmdId": command.id, "exitCode": command.code, **command.logs_json()}

    async def get_command(self, call: Call) -> tuple[int, object]:
        """Describe a command."""
        return 200, self._session(call).command(call.parts[2]).as_json()

    async def logs(self, call: Call) -> tuple[int, object] | None:
        """Return what a command printed, or send it as it comes."""
        command = self._session(call).command(call.parts[2])
        if call.query.get("follow") != "true" or not websocket.is_upgrade(call.exchange):
            return 200, command.logs_json()
        await websocket.serve(call.exchange, self._passing(command))
        return None

    async def send_input(self, call: Call) -> tuple[int, object]:
        """Give a command a line of input."""
        await self._session(call).command(call.parts[2]).write(call.text("data"))
        return 204, None

    async def make_folder(self, call: Call) -> tuple[int, object]:
        """Make a directory with its parents."""
        path, mode = call.query.get("path", ""), call.query.get("mode", "")
        if not path or not mode.isdecimal():
            raise Refusal(400, "path and mode are required", "BAD_REQUEST")
        await self._run(call, 'mkdir -p -- "$1" && chmod "$2" -- "$1"', path, mode)
        return 201, None

    async def upload(self, call: Call) -> tuple[int, object]:
        """Write files."""
        box, path = self._box(call), ""
        for name, data in _parts(call):
            if name.endswith(".path"):
                path = data.decode()
                continue
            await self._run(call, 'mkdir -p -- "$(dirname -- "$1")"', path)
            try:
                await box.machine.sandbox.write_file(path, data)
            except (AgentHostError, OSError) as error:
                raise Refusal(400, f"{path}: {error}", "BAD_REQUEST") from None
        return 200, {}

    async def download(self, call: Call) -> None:
        """Send files, each as a part; one that is missing is a part that states this."""
        box, paths, boundary = self._box(call), call.body.get("paths"), "daytona-file-boundary"
        body = b""
        for path in cast("list[str]", paths or []):
            try:
                kind, name, data = (
                    "application/octet-stream",
                    "file",
                    await box.machine.sandbox.read_file(path),
                )
            except (AgentHostError, OSError):
                error = {"message": f"file not found: {path}", "statusCode": 404, "code": "FILE_NOT_FOUND"}
                kind, name, data = "application/json", "error", json.dumps(error).encode()
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{path}"\r\n'
            head += f"Content-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
            body += head.encode() + data + b"\r\n"
        kind = f"multipart/form-data; boundary={boundary}"
        await call.exchange.reply(200, body + f"--{boundary}--\r\n".encode(), {"content-type": kind})

    async def _start(self, box: DaytonaBox, session: Session, text: str, *, echoes: bool) -> Command:
        # The words of the shell are known before it runs; the secret that ends its output is made here.
        made = Command(text, cast("Any", None), echoes)
        try:
            made.process = await box.machine.start(["bash", "-c", SHELL, "bash", text, made.secret], cwd=HOME)
        except (AgentHostError, OSError) as error:
            raise Refusal(400, f"the command was not started: {error}", "BAD_REQUEST") from None
        session.commands[made.id] = made
        return made

    async def _passing(self, command: Command) -> AsyncGenerator[bytes]:
        with self._streams.opened():
            async for data in command.events():
                await self._streams.passing(len(data))
                yield data

    async def _run(self, call: Call, script: str, *words: str) -> None:
        try:
            done = await self._box(call).machine.sandbox.exec(
                ["bash", "-c", script, "bash", *words], cwd=HOME
            )
        except (AgentHostError, OSError) as error:
            raise Refusal(400, str(error), "BAD_REQUEST") from None
        if done.exit_code != 0:
            raise Refusal(400, done.stderr.decode(errors="replace"), "BAD_REQUEST")

    def _session(self, call: Call) -> Session:
        found = self._box(call).sessions.get(call.parts[1])
        if found is None:
            raise Refusal(404, "session not found", "NOT_FOUND")
        return found


def _describe(session: Session) -> dict[str, Any]:
    return {"sessionId": session.id, "commands": [one.as_json() for one in session.commands.values()]}


def _parts(call: Call) -> list[tuple[str, bytes]]:
    """Return the names and the contents of a multipart body."""
    kind = call.exchange.request.headers.get("content-type", "")
    boundary = kind.partition("boundary=")[2].strip('"').encode()
    found: list[tuple[str, bytes]] = []
    for part in (b"\r\n" + call.exchange.request.body).split(b"\r\n--" + boundary)[1:-1]:
        head, _, data = part.partition(b"\r\n\r\n")
        found.append((head.decode().partition('name="')[2].partition('"')[0], data))
    return found
