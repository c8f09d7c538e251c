"""One HTTP request into a machine: to a port of it, also where only its own loopback has that.

``relay`` passes whole requests and whole answers, and of a header that is repeated in an answer the last one.
``pass_through`` passes an answer on while it comes, as edges do that collect nothing.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from contextlib import suppress
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any, cast

import anyio

from agenthost.errors import AgentHostError
from agenthost.testing.emulators.base.machines import Machine
from agenthost.testing.loopback import Exchange

# A request goes in, its answer comes out; a server that keeps the connection is not waited for.
_RELAY = 'exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 7; cat >&3; timeout 20 cat <&3'
_PASS = 'exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 7; cat >&3; exec cat <&3'
_MOST = 256 * 1024 * 1024  # bytes of an answer
_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
_NOT_ON = ("connection", "transfer-encoding", "content-length", "host")
_NOT_BACK = ("connection", "keep-alive", "transfer-encoding", "content-length")


async def relay(
    machine: Machine, port: int, exchange: Exchange, *, host: str, without: Collection[str]
) -> bool:
    """Send a request on and answer with what comes back, when it is whole; cut where that was cut.

    Args:
        machine: Whose port it is.
        port: Its number.
        exchange: The request, and where the answer goes.
        host: What the server is told that it is called.
        without: How the names of headers begin that are not the server's to see.

    Returns:
        Whether anybody listens: if not, nothing was answered.
    """
    request, sent = exchange.request, _for_server(exchange, host, without)
    try:
        done = await machine.sandbox.exec(["bash", "-c", _RELAY, str(port)], stdin=sent, max_output=_MOST)
    except AgentHostError:
        return True  # the sandbox has ended: its connections with it
    answer = HTTPResponse(cast("Any", _Said(done.stdout)), method=request.method)
    try:
        answer.begin()
        body = answer.read()
    except IncompleteRead:
        return True  # cut, as it came
    except HTTPException:
        return False
    back = {name: value for name, value in answer.getheaders() if name.lower() not in _NOT_BACK}
    await exchange.reply(answer.status, body, back)
    return True


async def pass_through(
    machine: Machine, port: int, exchange: Exchange, *, host: str, without: Collection[str]
) -> bool:
    """Send a request on, and pass the answer on while it comes; the connection ends with the answer.

    Args and what it returns are those of ``relay``.
    """
    sent = _for_server(exchange, host, without)
    try:
        async with (
            machine.sandbox.spawn(["bash", "-c", _PASS, str(port)]) as process,
            anyio.create_task_group() as tasks,
        ):

            async def leave_with_client() -> None:
                await exchange.client_gone()
                tasks.cancel_scope.cancel()

            tasks.start_soon(leave_with_client)
            answered = False
            with suppress(*_GONE):
                await process.send_stdin(sent)
                await process.close_stdin()
                while data := await process.receive_stdout():
                    answered = True
                    await exchange.incoming.stream.send(data)
            tasks.cancel_scope.cancel()
            return answered
    except AgentHostError:
        pass  # the sandbox has ended: its connections with it
    return True


def _for_server(exchange: Exchange, host: str, without: Collection[str]) -> bytes:
    """Return a request as its server gets it."""
    request, dropped = exchange.request, (*_NOT_ON, *without)
    headers = {name: value for name, value in request.headers.items() if not name.startswith(dropped)}
    headers.update(host=host, connection="close")
    headers["content-length"] = str(len(request.body))
    lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body


class _Said:
    """What came from a server, as the standard library wants it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        """Return it to be read."""
        del mode
        return io.BytesIO(self._data)
