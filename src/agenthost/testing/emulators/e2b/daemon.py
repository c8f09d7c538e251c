"""E2B's daemon inside a sandbox, and the proxy before it: programs and files."""

from __future__ import annotations

import contextlib
import gzip
import posixpath
import zlib
from base64 import b64decode
from collections.abc import AsyncGenerator
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from agenthost.errors import AgentHostError
from agenthost.testing.emulators.base.boxes import Boxes
from agenthost.testing.emulators.base.rest import reply
from agenthost.testing.emulators.base.streams import Streams
from agenthost.testing.emulators.e2b import connect, filesystem
from agenthost.testing.emulators.e2b.about import REFUSED
from agenthost.testing.emulators.e2b.boxes import HOME, E2BBox
from agenthost.testing.emulators.e2b.connect import RpcError
from agenthost.testing.emulators.e2b.forwarding import forward
from agenthost.testing.emulators.e2b.programs import Event, Program
from agenthost.testing.loopback import Exchange, HttpRequest

PORT = "49983"
_PROCESS = "/process.Process/"
_FILESYSTEM = "/filesystem.Filesystem/"
USER = "user"
_METADATA = "x-metadata-"
HTTP_CALLS = ("GET /health", "GET /files", "POST /files")
PROCESS_CALLS = {
    "Start": "_start",
    "Connect": "_connect",
    "StreamInput": "_stream_input",
    "List": "_list",
    "SendInput": "_send_input",
    "CloseStdin": "_close_stdin",
    "SendSignal": "_signal",
}
_STREAMS = ("Start", "Connect", "StreamInput")
_SIGNALS = {"SIGNAL_SIGTERM": 15, "SIGNAL_SIGKILL": 9}


class Daemon:
    """Answers what a client asks of a sandbox."""

    def __init__(self, boxes: Boxes[E2BBox], streams: Streams) -> None:
        self._boxes = boxes
        self._streams = streams
        # Bytes of each message of input that came by a stream.
        self.inputs: list[int] = []

    async def answer(self, exchange: Exchange) -> bool:
        """Answer a request; False: it is none of a sandbox's."""
        headers = exchange.request.headers
        sandbox_id = headers.get("e2b-sandbox-id")
        if sandbox_id is None:
            return False
        path = urlsplit(exchange.request.target).path
        box = self._boxes.all.get(sandbox_id)
        if box is not None:
            await box.goes_on.wait()
        if box is None or box.ended.is_set() or box.state != "running":
            await _say(exchange, 502, "The sandbox was not found", sandboxId=sandbox_id)
        elif headers.get("e2b-sandbox-port", PORT) != PORT:
            await forward(box, headers["e2b-sandbox-port"], exchange)
        elif path == "/health":
            await exchange.reply(204)
        elif headers.get("x-access-token") != box.token:
            await _say(exchange, 401, "no valid access token")
        elif path == "/files":
            await self._files(box, exchange)
        elif path.startswith(_PROCESS):
            await self._process(box, path.removeprefix(_PROCESS), exchange)
        elif path.startswith(_FILESYSTEM):
            await self._filesystem(box, path.removeprefix(_FILESYSTEM), exchange)
        else:
            return False
        return True

    async def _process(self, box: E2BBox, name: str, exchange: Exchange) -> None:
        try:
            if name not in PROCESS_CALLS:
                raise RpcError("unimplemented", f"this emulator has no call {name}")
            if name == "StreamInput":
                body: dict[str, Any] = {}
            elif name in _STREAMS:
                body = await _only_message(exchange.request.body)
            else:
                body = connect.parse(exchange.request.body)
            with self._streams.opened() if name in _STREAMS else contextlib.nullcontext():
                await getattr(self, PROCESS_CALLS[name])(box, exchange, body)
        except RpcError as error:
            if not exchange.started:
                await connect.refuse(exchange, error)
        except AgentHostError:
            return  # the sandbox has ended: its connections with it

    async def _filesystem(self, box: E2BBox, name: str, exchange: Exchange) -> None:
        try:
            _user(exchange.request.headers.get("authorization", ""))
            body: dict[str, Any] = connect.parse(exchange.request.body) if name in filesystem.CALLS else {}
            await connect.answer(exchange, await filesystem.call(box, name, body))
        except RpcError as error:
            await connect.refuse(exchange, error)
        except AgentHostError:
            return  # the sandbox has ended: its connections with it

    async def _start(self, box: E2BBox, exchange: Exchange, body: dict[str, Any]) -> None:
        headers = exchange.request.headers
        _user(headers.get("authorization", ""))
        config = _object(body, "process")
        if "cmd" not in config:
            raise RpcError("invalid_argument", "a process needs cmd")
        if "pty" in body:
            raise RpcError("unimplemented", REFUSED["pty"])
        limit = headers.get("connect-timeout-ms")
        try:
            program, events = await box.programs.start(
                [config["cmd"], *config.get("args", [])],
                cwd=posixpath.join(HOME, config.get("cwd") or ""),
                env={**box.env, **config.get("envs", {})},
                stdin=bool(body.get("stdin", True)),
                tag=body.get("tag"),
                # It hangs on the process, not on the connection.
                limit=None if limit is None else int(limit) / 1000,
                config=config,
            )
        except OSError as error:
            raise RpcError("invalid_argument", str(error)) from error
        await self._send_events(exchange, program, events, is_start=True)

    async def _connect(self, box: E2BBox, exchange: Exchange, body: dict[str, Any]) -> None:
        program = _select(box, _object(body, "process"))
        await self._send_events(exchange, program, box.programs.listen(program), is_start=False)

    async def _send_events(
        self,
        exchange: Exchange,
        program: Program,
        events: MemoryObjectReceiveStream[Event],
        *,
        is_start: bool,
    ) -> None:
        with events:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_when_gone, exchange, tasks.cancel_scope)
                with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await self._pass_on(exchange, program, events, is_start=is_start)
                tasks.cancel_scope.cancel()

    async def _pass_on(
        self,
        exchange: Exchange,
        program: Program,
        events: MemoryObjectReceiveStream[Event],
        *,
        is_start: bool,
    ) -> None:
        every = float(exchange.request.headers.get("keepalive-ping-interval", "90"))
        await exchange.start(200, {"content-type": connect.STREAM})
        await self._send(exchange, {"start": {"pid": program.pid}})
        while True:
            event: Event = {"keepalive": {}}
            try:
                with anyio.move_on_after(every):
                    event = await events.receive()
            except anyio.EndOfStream:
                if not (is_start and program.overdue.is_set()):
                    return  # cut, without a word
                error = {"code": "deadline_exceeded", "message": "context deadline exceeded"}
                await exchange.write(connect.envelope({"error": error}, last=True))
                await exchange.finish()
                return
            await self._send(exchange, event)
            if "end" in event:
                break
        await exchange.write(connect.envelope({}, last=True))
        await exchange.finish()

    async def _send(self, exchange: Exchange, event: Event) -> None:
        data = connect.envelope({"event": event})
        await self._streams.passing(len(data))
        await exchange.write(data)

    async def _stream_input(self, box: E2BBox, exchange: Exchange, body: dict[str, Any]) -> None:
        del body
        program: Program | None = None
        async for message in connect.messages(exchange.pieces()):
            if "start" in message:
                program = _select(box, _object(_object(message, "start"), "process"))
            elif "data" in message:
                if program is None:
                    raise RpcError("invalid_argument", "data before start")
                data = _input(_object(message, "data"))
                await self._streams.passing(len(data))
                self.inputs.append(len(data))
                await _write(program, data)
        await exchange.start(200, {"content-type": connect.STREAM})
        await exchange.write(connect.envelope({}) + connect.envelope({}, last=True))
        await exchange.finish()

    async def _list(self, box: E2BBox, exchange: Exchange, body: dict[str, Any]) -> None:
        del body
        listed = [
            {"config": one.config, "pid": pid, **({"tag": one.tag} if one.tag else {})}
            for pid, one in box.programs.running.items()
            if one.end is None
        ]
        await connect.answer(exchange, {"processes": listed})

    async def _send_input(self, box: E2BBox, exchange: Exchange, body: dict[str, Any]) -> None:
        await _write(_select(box, _object(body, "process")), _input(body))
        await connect.answer(exchange, {})

    async def _close_stdin(self, box: E2BBox, exchange: Exchange, body: dict[str, Any]) -> None:
        program = _select(box, _object(body, "process"))
        _check_input(program)
        program.has_input = False
        await program.process.close_stdin()
        await connect.answer(exchange, {})

    async def _signal(self, box: E2BBox, exchange: Exchange, body: dict[str, Any]) -> None:
        program = _select(box, _object(body, "process"))
        if program.end is not None:
            raise RpcError("not_found", "the process has ended")
        number = _SIGNALS.get(str(body.get("signal")))
        if number is None:
            raise RpcError("unimplemented", f"invalid signal: {body.get('signal')}")
        await box.programs.kill(program, number)
        await connect.answer(exchange, {})

    async def _files(self, box: E2BBox, exchange: Exchange) -> None:
        request = exchange.request
        query = {name: values[-1] for name, values in parse_qs(urlsplit(request.target).query).items()}
        is_multipart = request.headers.get("content-type", "").startswith("multipart/")
        if "path" not in query and (request.method == "GET" or not is_multipart):
            await _say(exchange, 400, "path is required")
            return
        try:
            _check_user(query.get("username", USER))
            if request.method == "GET":
                data = await box.machine.sandbox.read_file(filesystem.place(query["path"]))
                await exchange.reply(200, data, {"content-type": "application/octet-stream"})
                return
            metadata = {
                name.removeprefix(_METADATA): value
                for name, value in request.headers.items()
                if name.startswith(_METADATA)
            }
            written: list[dict[str, object]] = []
            for path, data in _uploaded(request, query.get("path")):
                place = filesystem.place(path)
                await box.machine.sandbox.write_file(place, data)
                await filesystem.put_metadata(box, place, metadata)
                entry = {"path": place, "name": posixpath.basename(place), "type": "file"}
                written.append({**entry, **({"metadata": metadata} if metadata else {})})
            await reply(exchange, 200, written)
        except RpcError as error:
            await _say(exchange, connect.http_status(error), str(error))
        except OSError as error:
            await _say(exchange, 404 if isinstance(error, FileNotFoundError) else 400, str(error))


async def _cancel_when_gone(exchange: Exchange, scope: anyio.CancelScope) -> None:
    await exchange.client_gone()
    scope.cancel()


async def _once(body: bytes) -> AsyncGenerator[bytes]:
    yield body


async def _only_message(body: bytes) -> dict[str, Any]:
    found = [one async for one in connect.messages(_once(body))]
    if len(found) != 1:
        raise RpcError("invalid_argument", f"one message was expected, not {len(found)}")
    return found[0]


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    found = body.get(name)
    if not isinstance(found, dict):
        raise RpcError("invalid_argument", f"{name} must be an object")
    return cast("dict[str, Any]", found)


def _input(body: dict[str, Any]) -> bytes:
    given = _object(body, "input")
    if "pty" in given:
        raise RpcError("unimplemented", REFUSED["pty"])
    try:
        return b64decode(given["stdin"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise RpcError("invalid_argument", f"stdin must be base64: {error}") from error


def _check_input(program: Program) -> None:
    if program.end is not None:
        raise RpcError("not_found", "the process has ended")
    if not program.has_input:
        raise RpcError("internal", "error writing to stdin: stdin not enabled or closed")


async def _write(program: Program, data: bytes) -> None:
    _check_input(program)
    try:
        await program.process.send_stdin(data)
    except OSError as error:
        raise RpcError("unknown", f"error writing to stdin: {error}") from error


def _select(box: E2BBox, selector: dict[str, Any]) -> Program:
    for pid, program in box.programs.running.items():
        if pid == selector.get("pid") or (program.tag is not None and program.tag == selector.get("tag")):
            return program
    raise RpcError("not_found", f"process with {selector} not found")


def _user(authorization: str) -> None:
    encoded = authorization.removeprefix("Basic ")
    _check_user(b64decode(encoded).decode().rstrip(":") if authorization else USER)


def _check_user(name: str) -> None:
    if name == "root":
        raise RpcError("unimplemented", REFUSED["root"])
    if name != USER:
        raise RpcError("unauthenticated", f"invalid username: {name!r}")


def _uploaded(request: HttpRequest, path: str | None) -> list[tuple[str, bytes]]:
    content_type, body = request.headers.get("content-type", ""), request.body
    match request.headers.get("content-encoding", "identity"):
        case "identity":
            pass
        case "gzip":
            try:
                body = gzip.decompress(body)
            except (OSError, EOFError, zlib.error) as error:
                raise RpcError("invalid_argument", f"the body is not gzip: {error}") from error
        case other:
            raise RpcError("invalid_argument", f"unsupported Content-Encoding: {other}")
    if not content_type.startswith("multipart/"):
        return [(str(path), body)]
    whole = b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body
    found: list[tuple[str, bytes]] = []
    for part in BytesParser(policy=HTTP).parsebytes(whole).iter_parts():
        data = part.get_payload(decode=True)
        assert isinstance(data, bytes)
        found.append((path or str(part.get_filename()), data))
    return found


async def _say(exchange: Exchange, status: int, message: str, **more: object) -> None:
    await reply(exchange, status, {"code": status, "message": message, **more})
