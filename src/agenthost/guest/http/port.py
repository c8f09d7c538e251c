"""The guest's port: who is admitted, and how much of everything there may be."""

from __future__ import annotations

import asyncio
import socket

from agenthost.guest.http.carrier import RENEW, HttpCarrier
from agenthost.guest.http.connection import Connection
from agenthost.guest.http.request import BadRequestError, Request
from agenthost.wire.admission import is_signed, port_key
from agenthost.wire.guest import GuestHub

CONNECTIONS = 128
CARRIERS = 64
STRANGERS = 16  # carriers on which no host has proved itself yet
REMEMBERED = 16_384  # names of carriers, none of which is admitted twice
_NAME = 32  # characters of a carrier's name
_KINDS = {("POST", "/v1/up"): "up", ("GET", "/v1/down"): "down"}


class Port:
    """Serves carriers on one TCP port.

    Args:
        hub: Whose carriers they are.
        renew: Seconds after which an answer in chunks ends.
    """

    def __init__(self, hub: GuestHub, *, renew: float = RENEW) -> None:
        if hub.guest_key is None:
            raise ValueError("a port needs the key that proves the guest")
        self._hub = hub
        self._key = port_key(hub.guest_key)
        self._renew = renew
        self._connections: dict[Connection, None] = {}  # the oldest first
        self._carriers: dict[str, HttpCarrier] = {}
        self._names: dict[str, None] = {}
        self._server: asyncio.Server | None = None

    async def serve(self, listener: socket.socket) -> None:
        """Begin to take connections."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), sock=listener)

    def tick(self, now: float) -> None:
        """Let time pass."""
        for connection in tuple(self._connections):
            connection.tick(now)
        for name, carrier in tuple(self._carriers.items()):
            carrier.tick(now)
            if carrier.ended:
                del self._carriers[name]

    def close(self) -> None:
        """Take no more connections, close all."""
        if self._server is not None:
            self._server.close()
        for carrier in self._carriers.values():
            carrier.close()
        for connection in tuple(self._connections):
            connection.abort()

    # ---- for connections

    def opened(self, connection: Connection) -> None:
        """Take note of a connection. Above the limit, the oldest on which nothing is admitted is closed."""
        if len(self._connections) >= CONNECTIONS:
            idle = (other for other in self._connections if not other.admitted)
            oldest = next(idle, connection)
            # Taken out at once: it ends a turn of the event loop later, and others may come before.
            self._connections.pop(oldest, None)
            oldest.abort()
            if oldest is connection:
                return
        self._connections[connection] = None

    def lost(self, connection: Connection) -> None:
        """Take note that a connection is gone."""
        self._connections.pop(connection, None)
        for carrier in self._carriers.values():
            carrier.lost(connection)

    def drained(self, connection: Connection) -> None:
        """Take note that a connection takes more."""
        del connection
        for carrier in self._carriers.values():
            carrier.wake()

    def admit(self, request: Request) -> None:
        """Look at the head of a request, before any of its body is read.

        Raises:
            BadRequestError: No host has sent it, or it has been sent before.
        """
        name = request.query.get("carrier", "")
        carrier = self._living(name)
        kind = _KINDS.get((request.method, request.path))
        if kind == "up":
            values: tuple[object, ...] = (request.number("batch"),)
        elif kind == "down":
            values = (request.number("request"), request.number("have"), request.query.get("mode", ""))
        else:
            raise BadRequestError
        if carrier is not None:
            key = carrier.key
        elif kind == "down" and values[0] == 0:
            key = self._key
        else:
            raise BadRequestError
        if not is_signed(request.token, key, kind, name, *values):
            raise BadRequestError
        if carrier is None:
            self._add(name)

    def answer(self, connection: Connection, request: Request, body: bytes) -> None:
        """Answer an admitted request. Raises BadRequestError where its carrier has ended meanwhile."""
        carrier = self._living(request.query["carrier"])
        if carrier is None:
            raise BadRequestError
        if request.method == "POST":
            carrier.up(connection, request.number("batch"), body)
        else:
            polls = request.query.get("mode") == "poll"
            if not carrier.down(connection, request.number("request"), request.number("have"), polls=polls):
                raise BadRequestError

    # ---- inside

    def _living(self, name: str) -> HttpCarrier | None:
        carrier = self._carriers.get(name)
        return None if carrier is None or carrier.ended else carrier

    def _add(self, name: str) -> None:
        living = [carrier for carrier in self._carriers.values() if not carrier.ended]
        if len(name) != _NAME or name in self._names or len(living) >= CARRIERS:
            raise BadRequestError
        unknown = [carrier for carrier in living if not carrier.is_known]
        if len(unknown) >= STRANGERS:
            unknown[0].close()
        self._names[name] = None
        if len(self._names) > REMEMBERED:
            del self._names[next(iter(self._names))]
        self._carriers[name] = HttpCarrier(self._hub, self._key, name, renew=self._renew)
