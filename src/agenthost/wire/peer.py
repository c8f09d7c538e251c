"""What both ends of a link do: streams out, streams in, and what is due to be sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from typing import ClassVar

from agenthost.wire.events import Ended, Event, Gap, Received, Stopped
from agenthost.wire.fields import natural, text
from agenthost.wire.frames import Data, Decoder, Header, ProtocolError, data_parts, encode
from agenthost.wire.seals import Seal
from agenthost.wire.settings import WireSettings
from agenthost.wire.streams import RecvStream, SendStream

MOST_STREAMS = 16 * 1024  # that one link has at once; a link in use has some hundreds


def new_decoder(settings: WireSettings) -> Decoder:
    """Return what cuts a carrier's bytes into frames."""
    # A sender goes beyond ``seal_every`` by one frame, and the end of a stream behind it.
    unsealed = settings.seal_every + settings.binary_payload + settings.max_line
    return Decoder(max_line=settings.max_line, max_payload=settings.binary_payload, max_unsealed=unsealed)


class Reading:
    """How far this link has sent one of our streams."""

    __slots__ = ("end_sent", "from_oldest", "limit", "sent", "stream")

    def __init__(self, stream: SendStream, sent: int, limit: int, *, from_oldest: bool = False) -> None:
        self.stream = stream
        self.sent = sent
        self.limit = limit
        self.end_sent = False
        self.from_oldest = from_oldest  # nothing was sent yet: begin at whatever is the oldest byte then


class Peer:
    """One end of one link. Not for direct use: HostLink and GuestLink are the two ends.

    The owner feeds ``receive`` with what its carrier brought and sends what ``take`` returns. ``wake`` is
    called whenever ``take`` may have something. Events wait in ``events``.
    """

    early: ClassVar[frozenset[str]]  # the frames that may come before the handshake is done

    def __init__(self, settings: WireSettings) -> None:
        self.settings = settings
        self.events: deque[Event] = deque()
        self.wake: Callable[[], None] = lambda: None
        self.connected = False  # a carrier is there
        self.flowing = False  # and the handshake is done: streams may move
        self.binary = False
        self._decoder = new_decoder(settings)
        self._seal: Seal | None = None  # of what is sent over this carrier; None: it takes no seals
        self._unsealed = 0  # bytes that it is to cover
        self._control: deque[Header] = deque()
        self._unwanted: set[str] = set()  # streams of theirs for which a word to stop is in ``_control``
        self._reading: dict[str, Reading] = {}
        self._due: dict[str, None] = {}  # our streams that may have something to send, in turn
        self._receiving: dict[str, RecvStream] = {}
        self._untold: dict[str, None] = {}  # their streams whose acknowledgement or credit is not told yet
        self._pinging = self._ponging = False  # one is queued
        self.last_sent = 0.0
        self.last_heard = 0.0

    # ---- the carrier

    def attach(self, *, binary: bool, now: float) -> None:
        """A new carrier is there. Whatever the old one still held is void."""
        self.connected, self.flowing, self.binary = True, False, binary
        self._decoder = new_decoder(self.settings)
        self._seal, self._unsealed = None, 0
        self._control.clear()
        self._unwanted.clear()
        self._due.clear()
        self._untold.clear()
        self._pinging = self._ponging = False
        self.last_sent = self.last_heard = now

    def detach(self) -> None:
        """The carrier is gone. Streams and calls stay."""
        self.connected = self.flowing = False
        self._control.clear()
        self._unwanted.clear()

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the carrier.

        Raises:
            ProtocolError: The other end broke the rules; close the carrier.
        """
        self.heard(now)
        for header, payload in self._decoder.feed(data):
            self.deliver(header, payload, now)

    def heard(self, now: float) -> None:
        """Take note that bytes came: part of a frame counts, which on a slow carrier takes its time."""
        self.last_heard = now

    def deliver(self, header: Header, payload: Data, now: float) -> None:
        """Take one frame. Raises as ``receive`` does."""
        self.last_heard = now
        try:
            if not self.flowing and header["t"] not in self.early:
                raise ProtocolError("a frame before the handshake is done")
            self._frame(header, payload)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise ProtocolError(f"a frame {str(header.get('t'))[:40]!r} is malformed") from exc

    def take(self, budget: int, now: float) -> bytes:
        """Return frames to send, about ``budget`` bytes, ``b""`` when there is nothing."""
        if not self.connected:
            return b""
        out: list[bytes] = []
        size = 0
        while self._control:
            self._put(out, [encode(self._stamped(self._control.popleft()))])
        self._unwanted.clear()
        self._pinging = self._ponging = False
        if self.flowing:
            if self._untold:
                for header in self._tell_untold():
                    self._put(out, [encode(self._stamped(header))])
            while self._due and size < budget:
                sid = next(iter(self._due))
                del self._due[sid]
                size += self._put(out, self._next_frames(sid))
        if self._unsealed:
            self._put_seal(out)
        if out:
            self.last_sent = now
        return out[0] if len(out) == 1 else b"".join(out)

    def _put(self, out: list[bytes], parts: Iterable[bytes]) -> int:
        """Add parts that make whole frames, and a seal where one is due. Return their size without it."""
        size = 0
        for part in parts:
            out.append(part)
            size += len(part)
            if self._seal is not None:
                self._seal.add(part)
        if self._seal is not None:
            self._unsealed += size
            if self._unsealed >= self.settings.seal_every:
                self._put_seal(out)
        return size

    def _put_seal(self, out: list[bytes]) -> None:
        assert self._seal is not None
        out.append(self._seal.line() + b"\n")
        self._unsealed = 0

    @property
    def has_output(self) -> bool:
        """True when ``take`` may return something."""
        return self.connected and bool(self._control or (self.flowing and (self._due or self._untold)))

    def tick(self, now: float) -> bool:
        """Do what time demands; False when the carrier has been silent for too long and must be closed."""
        if not self.connected:
            return True
        if now - self.last_heard >= self.settings.silence:
            return False
        if self._ping_is_due_at() <= now:
            self._pinging = True
            self._post({"t": "ping"})
        return True

    def next_tick(self) -> float | None:
        """Return when ``tick`` has something to do; None without a carrier."""
        if not self.connected:
            return None
        return min(self.last_heard + self.settings.silence, self._ping_is_due_at())

    def _ping_is_due_at(self) -> float:
        # Not before the handshake, where it would be a wrong frame; and one in the queue is enough.
        return self.last_sent + self.settings.ping_every if self.flowing and not self._pinging else inf

    # ---- streams out

    def _read(self, stream: SendStream, *, sent: int, limit: int, from_oldest: bool = False) -> None:
        """Send ``stream`` over this link from offset ``sent`` on."""
        self._reading[stream.sid] = Reading(stream, sent, limit, from_oldest=from_oldest)
        stream.readers.add(self._mark)
        self._mark(stream.sid)

    def _unread(self, sid: str) -> SendStream | None:
        reading = self._reading.pop(sid, None)
        self._due.pop(sid, None)
        if reading is None:
            return None
        reading.stream.readers.discard(self._mark)
        return reading.stream

    def _mark(self, sid: str) -> None:
        self._due[sid] = None
        if self.flowing:
            self.wake()

    def _next_frames(self, sid: str) -> Iterable[bytes]:
        """Return the next frame of one stream, in parts, and its end when that is reached."""
        reading = self._reading.get(sid)
        if reading is None:
            return []
        stream = reading.stream
        if stream.stopped:
            return []
        if reading.from_oldest:
            gone = max(0, stream.spool.base - reading.sent)
            reading.sent += gone
            reading.limit += gone
        if reading.sent < stream.spool.base:
            oldest, wanted = stream.spool.base, reading.sent
            self._unread(sid)
            return [encode(self._stamped({"t": "gap", "s": sid, "w": wanted, "o": oldest}))]
        frames: list[bytes] = []
        payload = self.settings.binary_payload if self.binary else self.settings.text_payload
        allowed = min(payload, reading.limit - reading.sent)
        if allowed > 0 and reading.sent < stream.spool.end:
            data = stream.spool.read(reading.sent, allowed)
            header = self._stamped({"t": "d", "s": sid, "o": reading.sent})
            frames.extend(data_parts(header, data, binary=self.binary))
            reading.sent += len(data)
            reading.from_oldest = False
            if self._may_acknowledge(sid):
                stream.shown = max(stream.shown, reading.sent)
        if reading.sent < stream.spool.end:
            if reading.sent < reading.limit:
                self._due[sid] = None  # at the back: every stream gets its turn
        elif stream.ended and not reading.end_sent:
            reading.end_sent = True
            frames.append(encode(self._stamped({"t": "end", "s": sid, "o": reading.sent})))
            self._on_end_sent(stream)
        return frames

    def _on_end_sent(self, stream: SendStream) -> None:
        """Hook: this link has sent all of a stream."""

    # ---- streams in

    def consume(self, sid: str, count: int) -> None:
        """Tell that the owner is done with ``count`` bytes of a stream it received."""
        stream = self._receiving.get(sid)
        if stream is not None:
            stream.consume(count)
            if stream.credit_is_due():
                self._tell(sid)

    def acknowledge(self, sid: str, offset: int) -> None:
        """Tell that everything below ``offset`` will never be asked for again.

        Raises:
            ValueError: ``offset`` is beyond what has arrived.
        """
        stream = self._receiving.get(sid)
        if stream is not None and offset > stream.acked:
            if offset > (stream.offset or 0):
                raise ValueError(f"stream {sid}: {offset} acknowledged, {stream.offset} arrived")
            stream.acked = offset
            self._tell(sid)

    def _tell(self, sid: str) -> None:
        self._untold[sid] = None
        if self.flowing:
            self.wake()

    def _tell_untold(self) -> list[Header]:
        headers: list[Header] = []
        for sid in self._untold:
            stream = self._receiving.get(sid)
            if stream is not None:
                headers.append({"t": "ack", "s": sid, "o": stream.acked, "c": stream.limit})
        self._untold.clear()
        return headers

    # ---- frames

    def _post(self, header: Header) -> None:
        """Queue a control frame for the carrier of now."""
        if self.connected:
            self._control.append(header)
            self.wake()

    def _stamped(self, header: Header) -> Header:
        """Add what every frame of this end carries."""
        return header

    def _frame(self, header: Header, payload: Data) -> None:
        kind = header["t"]
        if kind == "d":
            self._on_data(header["s"], header["o"], payload)
        elif kind == "ack":
            self._on_ack(header["s"], header["o"], header["c"])
        elif kind == "end":
            self._on_end(header["s"], header["o"])
        elif kind == "ping":
            if not self._ponging:
                self._ponging = True
                self._post({"t": "pong"})
        elif kind == "stop":
            self._on_stop(header["s"])
        elif kind == "gap":
            if self._receiving.pop(header["s"], None) is not None:
                self.events.append(Gap(header["s"], natural(header["w"]), natural(header["o"])))
        elif kind != "pong":
            raise ProtocolError(f"a frame of unknown kind {str(kind)[:40]!r}")

    def _on_data(self, sid: str, offset: int, payload: Data) -> None:
        stream = self._receiving.get(sid)
        if stream is None:
            self._on_unwanted(text(sid))
            return
        new = stream.receive(natural(offset), payload)
        if new:
            self.events.append(Received(sid, new))
        self._on_received(stream)

    def _on_received(self, stream: RecvStream) -> None:
        """Hook: something arrived on a stream."""

    def _on_end(self, sid: str, offset: int) -> None:
        stream = self._receiving.get(sid)
        if stream is None:
            self._on_unwanted(text(sid))
        elif stream.finish(natural(offset)):
            self.events.append(Ended(sid))

    def _on_unwanted(self, sid: str) -> None:
        """Hook: bytes of a stream that we do not receive: ask for no more, once until that is sent.

        Raises:
            ProtocolError: More streams than either end has at once: the other end reads nothing of it.
        """
        if sid not in self._unwanted:
            if len(self._unwanted) >= MOST_STREAMS:
                raise ProtocolError(f"bytes of more than {MOST_STREAMS} streams that were not asked for")
            self._unwanted.add(sid)
            self._post({"t": "stop", "s": sid})

    def _on_ack(self, sid: str, offset: int, limit: int) -> None:
        reading = self._reading.get(sid)
        if reading is None:
            return
        if self._may_acknowledge(sid):
            reading.stream.acknowledge(natural(offset))
            if reading.end_sent:
                self._on_end_sent(reading.stream)
        if natural(limit) > reading.limit:
            reading.limit = limit
            self._mark(sid)

    def _may_acknowledge(self, sid: str) -> bool:  # noqa: ARG002 - the guest's end looks at it
        """Hook: whether this link's acknowledgements count for the stream."""
        return True

    def _on_stop(self, sid: str) -> None:
        stream = self._unread(sid)
        if stream is not None:
            self._stopped(stream)

    def _stopped(self, stream: SendStream) -> None:
        """The other end wants no more of one of our streams."""
        whole = stream.ended and stream.acked == stream.end_offset
        if stream.stopped:
            return
        stream.stop()
        if not whole:  # it stops nothing that has arrived to its last byte
            self.events.append(Stopped(stream.sid))
