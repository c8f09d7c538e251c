"""What both of Modal's services have in common: credentials, faults, refusals, calls that are not known."""

from __future__ import annotations

import base64
import json
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, cast

import anyio.lowlevel
from grpclib import GRPCError, Status
from grpclib.events import RecvRequest, listen
from grpclib.protocol import H2Protocol
from grpclib.server import Server
from modal._utils.grpc_utils import custom_detail_codec
from modal_proto import api_pb2

from agenthost.testing.emulators.base.faults import Faults

Check = Callable[[str, Any], None]
Stream = Any  # grpclib's, of whatever messages: both services have dozens


def refuse(status: str, message: str, *, retry_after: float | None = None) -> NoReturn:
    """Refuse a call with a gRPC status."""
    details = None if retry_after is None else [api_pb2.RPCRetryPolicy(retry_after_secs=retry_after)]
    raise GRPCError(Status[status], message, details)


def make_token(subject: str, seconds: float) -> str:
    """Return a token that ends by itself, in the form that the client reads its end from."""

    def encode(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{encode({'alg': 'none'})}.{encode({'sub': subject, 'exp': time.time() + seconds})}.x"


def check_token(token: str, subject: str) -> None:
    """Refuse a token that was made for somebody else, or is over."""
    try:
        body = token.split(".")[1]
        told = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        good = told["sub"] == subject and told["exp"] > time.time()
    except (IndexError, KeyError, ValueError):
        good = False
    if not good:
        refuse("UNAUTHENTICATED", "the token is not valid")


def complete(service: type) -> Any:
    """Return an instance-ready class: what it does not know it refuses."""
    unknown: frozenset[str] = getattr(service, "__abstractmethods__", frozenset())
    cast("Any", service).answered = sorted({one for one in dir(service) if one[0].isupper()} - unknown)
    for name in unknown:
        setattr(service, name, _unknown(name))
    service.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]  # typed away from classes
    return service


def _unknown(name: str) -> Callable[[Any, Stream], Awaitable[None]]:
    async def handle(self: Any, stream: Stream) -> None:
        await stream.recv_message()
        self.faults.unknown.append(name)
        refuse("UNIMPLEMENTED", f"the emulator does not know {name}")

    return handle


class _Server(Server):
    """grpclib's server, which knows its connections: it leaves it to clients to close them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._open: weakref.WeakSet[H2Protocol] = weakref.WeakSet()

    def abort(self) -> None:
        """Close every connection, whether it ever asked for anything."""
        for protocol in tuple(self._open):
            transport: Any = vars(protocol.connection)["_transport"]
            transport.abort()

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        self._open.add(protocol)
        return protocol


class Service:
    """A server on loopback, at a free port.

    Attributes:
        port: Its port.
    """

    def __init__(self, server: _Server) -> None:
        self.port = _port(server)
        self._server = server

    async def close(self) -> None:
        """Serve nobody any more, and close what clients have left open."""
        self._server.close()
        self._server.abort()  # first: from Python 3.12 on all of them are waited for
        await self._server.wait_closed()
        await anyio.lowlevel.checkpoint()  # the event loop closes them now
        await anyio.lowlevel.checkpoint()


async def serve(service: Any, check: Check, faults: Faults) -> Service:
    """Serve on loopback."""
    server = _Server([service], status_details_codec=custom_detail_codec)

    async def receive(event: RecvRequest) -> None:
        name, func, metadata = event.method_name.rpartition("/")[2], event.method_func, event.metadata

        async def handle(stream: Stream) -> None:
            faults.calls.append(name)
            check(name, metadata)
            fault = await faults.strike(name)
            if fault is None:
                await func(stream)
                return
            is_done = fault.after or fault.lose
            fails = is_done or fault.drop or fault.status is not None
            if is_done or not fails:
                await func(cast("Any", _Mute(stream)) if fails else stream)
            if fails:
                refuse(fault.grpc_status, "on purpose", retry_after=fault.retry_after)

        event.method_func = handle

    listen(server, RecvRequest, receive)
    await server.start("127.0.0.1", 0)
    return Service(server)


def _port(server: Server) -> int:
    listening: Any = vars(server)["_server"]  # it does not tell its port otherwise
    return int(listening.sockets[0].getsockname()[1])


class _Mute:
    """A stream whose answer goes nowhere."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def send_message(self, message: object) -> None:
        """Lose it."""
