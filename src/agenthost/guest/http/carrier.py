"""One carrier over HTTP: requests that bring bytes up, and answers that bring bytes down."""

from __future__ import annotations

import asyncio
import os
import time

from agenthost.guest.carrier import feed
from agenthost.guest.http.connection import Connection
from agenthost.wire.admission import carrier_key
from agenthost.wire.guest import GuestHub

RENEW = 240.0  # seconds after which an answer in chunks ends: edges cut those of 5 minutes
HOLD = 20.0  # seconds that a poll waits for the first byte
ABSENT = 10.0  # seconds without a request for bytes after which the host has gone
_CHUNK = 256 * 1024  # bytes handed out at once


class HttpCarrier:
    """The state of one carrier.

    Args:
        hub: Whose carrier it is.
        key: The port's.
        name: Chosen by the host.
        renew: Seconds after which an answer in chunks ends.

    Attributes:
        key: Signs all requests but the first.
        ended: Whether it is over, and to be forgotten.
    """

    def __init__(self, hub: GuestHub, key: bytes, name: str, *, renew: float = RENEW) -> None:
        nonce = os.urandom(16).hex()
        self.key = carrier_key(key, name, nonce)
        self.ended = False
        self._renew = renew
        self._loop = asyncio.get_running_loop()
        self._state = hub.open_carrier(now=time.monotonic())
        self._state.on_close = self.wake
        self._scheduled = False
        self._batch = 0  # the next one up
        self._requests = -1  # the number of the last request for bytes
        self._down: Connection | None = None
        self._polls = False
        self._since = time.monotonic()  # when bytes were asked for, or the answer ended
        self._sent = 0  # bytes handed out
        self._greeting = nonce.encode() + b"\n"
        self._kept = b""  # the last answer to a poll, until the host has it

    @property
    def is_known(self) -> bool:
        """Whether a host has proved itself on it."""
        return self._state.link is not None

    def up(self, connection: Connection, batch: int, body: bytes) -> None:
        """Take a batch. One that was taken before is confirmed again; a gap ends the carrier."""
        if batch > self._batch:
            connection.answer(409)
            self.close()
            return
        if batch == self._batch:
            self._batch += 1
            self._receive(body)
        connection.answer(204)

    def down(self, connection: Connection, number: int, have: int, *, polls: bool) -> bool:
        """Send on the answer to this request what comes after the host's first ``have`` bytes.

        Return False for the number of an earlier request: a recorded request gets no bytes.
        """
        if number <= self._requests:
            return False
        self._requests = number
        if self._down is not None:
            self._down.abort()
        self._down = None
        missing = self._sent - have
        if not 0 <= missing <= len(self._kept):
            connection.answer(409)
            self.close()
            return True
        self._kept = self._kept[len(self._kept) - missing :]
        self._down, self._polls, self._since = connection, polls, time.monotonic()
        if not polls:
            connection.start()
        self.wake()
        return True

    def lost(self, connection: Connection) -> None:
        """Take note that a connection is gone."""
        if connection is self._down:
            self._detach()

    def wake(self) -> None:
        """Send what there is, soon: what is due at once travels together."""
        if not self._scheduled and not self.ended:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def tick(self, now: float) -> None:
        """Let time pass."""
        self._state.tick(now)
        waited = now - self._since
        if self._down is None:
            if waited >= ABSENT:
                self.close()
        elif self._polls:
            if waited >= HOLD:
                self._detach().answer(200)
        elif waited >= self._renew:
            self._detach().finish()

    def close(self) -> None:
        """End it; the link lives on."""
        if not self.ended:
            self.ended = True
            self._state.lost()
            if self._down is not None:
                self._detach().abort()

    def _detach(self) -> Connection:
        connection, self._down = self._down, None
        assert connection is not None
        self._since = time.monotonic()
        return connection

    def _receive(self, data: bytes) -> None:
        if feed(self._state, data, self.wake):
            self.wake()
        else:
            self.close()

    def _flush(self) -> None:
        self._scheduled = False
        while (connection := self._down) is not None and not connection.is_full:
            data = self._kept
            if not data:
                data = self._greeting + self._state.take(_CHUNK, time.monotonic())
                self._greeting = b""
                self._sent += len(data)
            if not data:
                break
            if self._polls:
                self._kept = data
                self._detach().answer(200, data)
            else:
                self._kept = b""
                connection.write(data)
        # Without a request to answer, the last bytes wait for one: ``tick`` bounds that.
        if self._state.closing and self._down is not None and not self._down.is_full:
            connection = self._detach()
            if self._polls:
                connection.answer(200)
            else:
                connection.finish()
            self.close()
