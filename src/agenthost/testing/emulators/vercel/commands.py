"""Calls about a session's programs and files."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import anyio

from agenthost.background import BackgroundTasks
from agenthost.errors import AgentHostError
from agenthost.testing.emulators.base.clock import Clock
from agenthost.testing.emulators.base.image_build import ImageBuild
from agenthost.testing.emulators.base.streams import Streams
from agenthost.testing.emulators.vercel.api import Call, Refusal, invalid
from agenthost.testing.emulators.vercel.boxes import HOME, VercelBox, new_id
from agenthost.testing.emulators.vercel.programs import Program

ROUTES = {
    "POST /v2/sandboxes/sessions/{sid}/cmd": "start",
    "GET /v2/sandboxes/sessions/{sid}/cmd": "list_programs",
    "GET /v2/sandboxes/sessions/{sid}/cmd/{cid}": "get",
    "GET /v2/sandboxes/sessions/{sid}/cmd/{cid}/logs": "logs",
    "POST /v2/sandboxes/sessions/{sid}/cmd/{cid}/stdin": "stdin",
    "POST /v2/sandboxes/sessions/{sid}/cmd/{cid}/kill": "kill",
    "POST /v2/sandboxes/sessions/{sid}/fs/write": "write_files",
    "POST /v2/sandboxes/sessions/{sid}/fs/read": "read_file",
    "POST /v2/sandboxes/sessions/{sid}/fs/mkdir": "mkdir",
}
_NDJSON = {"content-type": "application/x-ndjson"}
_MOST_BODY = 1_000_000  # bytes of a call with input
_UNPACK = ["tar", "-xzf", "-", "--no-same-owner"]


class Commands:
    """Answers these calls.

    Args:
        session: Returns a session that takes commands, or refuses.
        tasks: Programs outlive the calls that start them.
        clock: The time by which streams are cut.
        streams: The streams that are open.
        directory: Where what programs write that are root is kept.
        build_env: The environment of these.
        stream_seconds: After which a stream is cut.
        stdin: Whether programs can have input.
        friendly: Text comes in whole pieces.
    """

    def __init__(
        self,
        session: Callable[[Call], VercelBox],
        tasks: BackgroundTasks,
        clock: Clock,
        streams: Streams,
        *,
        directory: Path,
        build_env: Mapping[str, str],
        stream_seconds: float,
        stdin: bool,
        friendly: bool,
    ) -> None:
        self._session = session
        self._tasks = tasks
        self._clock = clock
        self._streams = streams
        self._directory = directory
        self._build_env = build_env
        self._stream_seconds = stream_seconds
        self._stdin = stdin
        self._friendly = friendly

    async def start(self, call: Call) -> dict[str, Any] | None:
        """Start a program; with ``wait`` and ``logs`` follow it in the same answer."""
        box, body = self._session(call), call.body
        if not isinstance(name := body.get("command"), str) or not name:
            raise invalid("`command` is required.")
        args = [str(one) for one in cast("list[object]", body.get("args") or [])]
        about = {
            "id": new_id("cmd_"),
            "name": name,
            "args": args,
            "cwd": body.get("cwd") or HOME,
            "sessionId": box.session,
            "startedAt": round(self._clock.now() * 1000),
        }
        is_root = body.get("sudo") or name == "sudo"
        program = await (self._start_root if is_root else self._start)(box, about, body)
        box.programs[str(about["id"])] = program
        if limit := body.get("timeout"):
            self._tasks.start_soon(_kill_later, program, limit / 1000)
        if not body.get("wait"):
            return {"command": program.as_json()}
        await self._stream(call, program, with_command=True)
        return None

    async def list_programs(self, call: Call) -> dict[str, Any]:
        """List the programs."""
        found = list(self._session(call).programs.values())
        return {"commands": [one.as_json() for one in reversed(found)]}

    async def get(self, call: Call) -> dict[str, Any]:
        """Describe a program, with ``wait`` when it has ended."""
        program = self._program(call)
        if call.parameter("wait") == "true":
            await program.ended()
        return {"command": program.as_json()}

    async def logs(self, call: Call) -> None:
        """Send all that a program printed, from its beginning, and what it prints until it ends."""
        await self._stream(call, self._program(call), with_command=False)

    async def stdin(self, call: Call) -> dict[str, Any]:
        """Write to a program's input."""
        if len(call.exchange.request.body) >= _MOST_BODY:
            raise Refusal(413, "request_entity_too_large", "The body of the request is too large.")
        program = self._program(call)
        try:
            data = b64decode(call.body.get("data", ""), validate=True)
        except (TypeError, ValueError):
            raise invalid("`data` should be base64.") from None
        await self._streams.passing(len(data))
        offset = call.body.get("offset")
        written = await program.write(data, offset, close=bool(call.body.get("close")))
        return {"command": program.as_json(), "bytesWritten": written}

    async def kill(self, call: Call) -> dict[str, Any]:
        """Send a signal to a program. The answer does not tell that it has ended."""
        program = self._program(call)
        told = program.as_json()
        await program.kill(call.integer("signal", 15, 1, 31))
        return {"command": told}

    async def write_files(self, call: Call) -> dict[str, Any]:
        """Unpack an archive."""
        box, headers = self._session(call), call.exchange.request.headers
        if headers.get("content-type") != "application/gzip":
            raise invalid("the body should be application/gzip.")
        argv = [*_UNPACK, "-C", headers.get("x-cwd", HOME)]
        done = await box.machine.sandbox.exec(argv, stdin=call.exchange.request.body)
        if done.exit_code != 0:
            raise Refusal(400, "file_error", done.stderr.decode(errors="replace"))
        return {}

    async def read_file(self, call: Call) -> None:
        """Send a file."""
        box = self._session(call)
        path = Path(str(call.body.get("cwd") or HOME), str(call.body.get("path", "")))
        try:
            data = await box.machine.sandbox.read_file(str(path))
        except OSError:
            raise Refusal(404, "not_found", "File not found.") from None
        await call.exchange.reply(200, data, {"content-type": "application/octet-stream"})

    async def mkdir(self, call: Call) -> dict[str, Any]:
        """Make a directory."""
        path = str(Path(str(call.body.get("cwd") or HOME), str(call.body.get("path", ""))))
        parents = ["-p"] if call.body.get("recursive") else []
        done = await self._session(call).machine.sandbox.exec(["mkdir", *parents, path])
        if done.exit_code != 0:
            raise Refusal(400, "file_error", f"error creating directory: {path}")
        return {}

    def _program(self, call: Call) -> Program:
        found = self._session(call).programs.get(call.parts[1])
        if found is None:
            raise Refusal(404, "command_not_found_or_exited", "Command not found or already exited.")
        return found

    async def _start(self, box: VercelBox, about: Mapping[str, Any], body: Mapping[str, Any]) -> Program:
        argv = [about["name"], *about["args"]]
        given: list[dict[str, str]] = [one.get("env") or {} for one in (box.body, body)]
        env = {**given[0], **given[1]}
        try:
            process = await box.machine.start(argv, cwd=about["cwd"], env={"HOME": HOME, **env})
        except OSError:
            message = f"[invalid_argument] executable file not found in $PATH: {argv[0]}"
            raise Refusal(400, "executable_not_found", message) from None
        except AgentHostError:
            raise _gone() from None
        program = Program(about, process, has_input=bool(body.get("attachStdin")) and self._stdin)
        self._tasks.start_soon(program.follow)
        return program

    async def _start_root(self, box: VercelBox, about: Mapping[str, Any], body: Mapping[str, Any]) -> Program:
        del body
        if box.build is None:
            box.build = ImageBuild(self._directory / box.session, self._build_env)
        program = Program(about, None, has_input=False)
        argv = [about["name"], *about["args"]]
        self._tasks.start_soon(
            _run_root, box.build, program, argv[2:] if argv[:2] == ["sudo", "-n"] else argv
        )
        return program

    async def _stream(self, call: Call, program: Program, *, with_command: bool) -> None:
        exchange, box = call.exchange, self._session(call)
        end = self._clock.now() + self._stream_seconds
        with self._streams.opened() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_when, exchange.client_gone, scope)
                tasks.start_soon(_cancel_when, box.ended.wait, scope)
                tasks.start_soon(_cancel_when, lambda: self._clock.sleep_until(end), scope)
                await exchange.start(200, _NDJSON)
                if with_command:
                    await self._send(call, {"command": {**program.about, "exitCode": None}})
                async with aclosing(program.events()) as events:
                    async for stream, text in events:
                        for piece in self._pieces(text):
                            await self._send(call, {"stream": stream, "data": piece})
                if with_command:
                    await self._send(call, {"command": program.as_json()})
                await exchange.finish()
                tasks.cancel_scope.cancel()

    async def _send(self, call: Call, value: Mapping[str, Any]) -> None:
        line = json.dumps(value).encode() + b"\n"
        await self._streams.passing(len(line))
        middle = 0 if self._friendly else len(line) // 2  # anywhere but at the end of a line
        for piece in (line[:middle], line[middle:]):
            await call.exchange.write(piece)

    def _pieces(self, text: str) -> list[str]:
        return [text] if self._friendly or len(text) < 2 else [text[:1], text[1:]]


def _gone() -> Refusal:
    return Refusal(410, "sandbox_stopped", "Sandbox has stopped execution and is no longer available")


async def _cancel_when(happens: Callable[[], Awaitable[object]], scope: anyio.CancelScope) -> None:
    await happens()
    scope.cancel()


async def _kill_later(program: Program, seconds: float) -> None:
    await anyio.sleep(seconds)
    await program.kill(9)


async def _run_root(build: ImageBuild, program: Program, argv: list[str]) -> None:
    program.end(await build.run(argv, lambda line: program.say("stdout", f"{line}\n")))
