"""One incoming connection: bytes between the socket and the wire's state machine."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable

from agenthost.guest.lobby import Lobby
from agenthost.wire.frames import ProtocolError
from agenthost.wire.guest import GuestHub
from agenthost.wire.incoming import GuestCarrier

_CHUNK = 256 * 1024  # bytes taken from the socket, and handed to it, at once
_BACKLOG = 128  # connections that wait in the kernel while the lobby is full
_NO_DESCRIPTOR = 1.0  # seconds after which a connection is tried again where no descriptor was left
_BUFFER = 1024 * 1024  # what the kernel is asked to keep for each direction; it gives what it allows


def feed(state: GuestCarrier, data: bytes, wake: Callable[[], None]) -> bool:
    """Hand what has arrived to the state machine. Return False where the carrier has to be closed.

    Args:
        state: Of the carrier.
        data: What has arrived.
        wake: Called from now on when the link has something to send, once a host has proved itself.
    """
    known = state.link
    try:
        state.receive(data, time.monotonic())
    except ProtocolError as exc:
        sys.stderr.write(f"a carrier was closed: {exc}\n")
        return False
    link = state.link
    if link is not None and known is None and link.carrier is state:
        link.wake = wake
    return True


class Carriers:
    """Takes connections and keeps those that are open."""

    def __init__(self, hub: GuestHub, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._hub = hub
        self._listener = listener
        self._open: set[SocketEnd] = set()
        self._lobby: Lobby[SocketEnd] = Lobby()
        self._listens = False
        listener.setblocking(False)
        listener.listen(_BACKLOG)  # whoever made the socket
        self._listen()

    def _listen(self) -> None:
        if not self._listens and self._listener.fileno() >= 0:
            self._listens = True
            self._loop.add_reader(self._listener, self._accept)

    def _pause(self, seconds: float) -> None:
        self._listens = False
        self._loop.remove_reader(self._listener)
        self._loop.call_later(seconds, self._listen)

    def tick(self, now: float) -> None:
        """Let time pass."""
        for end in tuple(self._open):
            end.tick(now)

    def close(self) -> None:
        """Take no more connections, close all."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for end in tuple(self._open):
            end.close()

    def _accept(self) -> None:
        # A connection that has ended of itself is in the lobby until its end was read: no harm.
        wait = self._lobby.opens_in(time.monotonic())
        if wait > 0:
            self._pause(wait)
            return
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as exc:  # no descriptor is left: without a pause this would be called at once again
            sys.stderr.write(f"no connection can be taken: {exc}\n")
            self._pause(_NO_DESCRIPTOR)
            return
        self._lobby.enter(SocketEnd(self._hub, connection, self._open, self._lobby), time.monotonic())


class SocketEnd:
    """Feeds what arrives to the state machine, and sends what it has in one burst a round.

    Works on the socket itself: asyncio's transport would copy each burst that does not fit at once.
    """

    def __init__(
        self, hub: GuestHub, connection: socket.socket, everyone: set[SocketEnd], lobby: Lobby[SocketEnd]
    ) -> None:
        self._lobby = lobby
        self._loop = asyncio.get_running_loop()
        self._everyone = everyone
        self._socket = connection
        self._closed = False
        self._scheduled = False
        self._unsent = memoryview(b"")
        self._state = hub.open_carrier(now=time.monotonic())
        self._state.on_close = self._wake
        connection.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            connection.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        everyone.add(self)
        self._loop.add_reader(connection, self._readable)
        self._wake()

    def tick(self, now: float) -> None:
        """Let time pass."""
        self._state.tick(now)

    def abort(self) -> None:
        """Close it in favour of another connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; the link lives on."""
        if not self._closed:
            self._closed = True
            self._everyone.discard(self)
            self._lobby.leave(self)
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._state.lost()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        if feed(self._state, data, self._wake):
            if self._state.link is not None:
                self._lobby.leave(self)
            self._wake()
        else:
            self.close()

    def _wake(self) -> None:
        if not self._scheduled and not self._closed and not self._unsent:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        while not self._closed:
            if not self._unsent:
                self._unsent = memoryview(self._state.take(_CHUNK, time.monotonic()))
                if not self._unsent:
                    break
            try:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._writable)
                return
            except OSError:
                self.close()
        if self._state.closing:
            self.close()

    def _writable(self) -> None:
        self._loop.remove_writer(self._socket)
        self._flush()
