"""The host's end of a link."""

from __future__ import annotations

from typing import Any

from agenthost.wire.events import (
    Answered,
    Forgotten,
    Granted,
    Hello,
    Missing,
    Opened,
    Ready,
    Refused,
    Shut,
    WireVersion,
)
from agenthost.wire.frames import Header, ProtocolError
from agenthost.wire.peer import Peer
from agenthost.wire.settings import WIRE_VERSION, WireSettings
from agenthost.wire.spool import MemorySpool
from agenthost.wire.streams import RecvStream, SendStream
from agenthost.wire.tokens import DRIVER


class HostLink(Peer):
    """One link per host process and sandbox, over as many carriers as it takes.

    Args:
        link_id: Random, secret, unique to this process and sandbox.
        boot_id: The guest's boot, when known from before: another one gets no token.
    """

    def __init__(
        self, link_id: str, settings: WireSettings | None = None, *, boot_id: str | None = None
    ) -> None:
        super().__init__(settings or WireSettings())
        self.link_id = link_id
        self.boot_id = boot_id
        self._grants: dict[tuple[str, str], dict[str, Any]] = {}
        self._asked: dict[tuple[str, str], None] = {}  # grants that the guest has not answered yet
        self._calls: dict[int, Header] = {}
        self._sent_calls: set[int] = set()
        self._next_call = 1
        self._welcomed = False
        self._opened: set[str] = set()
        self._arrived: dict[str, tuple[int, int, bool]] = {}  # what the guest holds of our streams

    # ---- roles

    def grant(self, agent: str, role: str, token: str) -> None:
        """Ask for a role. Granted or Refused follows, now or after the next handshake."""
        self._grants[agent, role] = {"agent": agent, "role": role, "token": token}
        self._asked[agent, role] = None
        if self.flowing:
            self._post({"t": "grant", "grants": [self._grants[agent, role]]})

    def drop(self, agent: str, role: str) -> None:
        """Ask for this role no more."""
        self._grants.pop((agent, role), None)
        self._asked.pop((agent, role), None)

    # ---- calls

    def call(self, method: str, params: dict[str, Any]) -> int:
        """Have the guest do something, once. Answered (or Forgotten) follows."""
        number = self._next_call
        self._next_call += 1
        self._calls[number] = {"t": "call", "i": number, "m": method, "p": params}
        if self.flowing:
            self._post_call(number)
        return number

    def abandon(self, call: int) -> None:
        """Care no more for a call's answer. It may still be done."""
        self._calls.pop(call, None)
        self._sent_calls.discard(call)

    def _post_call(self, number: int) -> None:
        self._sent_calls.add(number)
        self._post(self._calls[number])

    # ---- streams

    def send_stream(self, sid: str, *, base: int = 0) -> SendStream:
        """Begin a stream to the guest, or go on with one at ``base``."""
        stream = SendStream(sid, bound=self.settings.window, spool=MemorySpool(base))
        arrived, limit, _ = self._arrived.get(sid, (base, base + self.settings.initial_window, False))
        self._read(stream, sent=max(base, arrived), limit=limit)
        return stream

    def drop_send_stream(self, sid: str) -> None:
        """Send nothing more of a stream."""
        self._unread(sid)

    def subscribe(self, sid: str, *, offset: int | None = 0, window: int | None = None) -> RecvStream:
        """Ask for a stream from ``offset`` on; None asks for the oldest byte kept."""
        stream = RecvStream(sid, offset=offset, window=window or self.settings.window)
        self._receiving[sid] = stream
        if self.flowing:
            self._post({"t": "sub", "subs": [_subscription(stream)]})
        return stream

    def unsubscribe(self, sid: str) -> None:
        """Ask for no more of a stream; what is on its way is dropped."""
        stream = self._receiving.pop(sid, None)
        if stream is not None and not stream.ended and self.flowing:
            self._post({"t": "stop", "s": sid})

    # ---- the handshake

    def _stamped(self, header: Header) -> Header:
        done = min(self._calls) if self._calls else self._next_call
        return {**header, "z": done}

    def _frame(self, header: Header, payload: bytes) -> None:
        kind = header["t"]
        if kind == "hello":
            self._on_hello(header)
        elif kind == "have":
            self._on_have(header)
        elif kind == "granted":
            self._on_granted(header)
        elif kind == "ans":
            self._on_answer(header)
        elif kind == "open":
            self._on_open(header["s"], header["agent"], header["meta"])
        elif kind == "shut":
            self._on_shut(header["s"])
        elif kind == "none":
            if self._receiving.pop(header["s"], None) is not None:
                self.events.append(Missing(header["s"]))
        elif kind == "superseded":
            self.drop(header["agent"], DRIVER)
            self.events.append(Refused(header["agent"], DRIVER, "superseded"))
        elif kind == "deny":
            self.events.append(Refused(header["agent"], header["role"], "token"))
        else:
            super()._frame(header, payload)

    def _on_hello(self, header: Header) -> None:
        if header["wire"] != WIRE_VERSION:
            self.events.append(WireVersion(header["wire"]))
            return
        boot_id = str(header["boot"])
        self.events.append(Hello(boot_id))
        if self.boot_id is None:
            self.boot_id = boot_id
        if self.boot_id == boot_id:  # never show a token to another machine
            grants = list(self._grants.values())
            self._post({"t": "auth", "link": self.link_id, "raw": self.binary, "grants": grants})

    def _on_have(self, header: Header) -> None:
        if self.flowing:
            raise ProtocolError("a second handshake")
        if header["new"] and self._welcomed:
            lost = tuple(number for number in self._calls if number in self._sent_calls)
            for number in lost:
                self.abandon(number)
            self.events.append(Forgotten(lost))
        self._welcomed = True
        self.flowing = True
        self._arrived.clear()
        self._on_granted(header)
        for sid, reading in self._reading.items():
            start = reading.stream.acked
            fresh = (start, start + self.settings.initial_window, False)
            reading.sent, reading.limit, reading.end_sent = self._arrived.get(sid, fresh)
            reading.stream.acknowledge(reading.sent)
            self._due[sid] = None
        for sid in self._opened - set(header["open"]):
            self._on_shut(sid)
        for sid, (agent, meta) in header["open"].items():
            self._on_open(sid, agent, meta)
        subs = [_subscription(stream) for stream in self._receiving.values() if not stream.ended]
        self._post({"t": "have", "subs": []})
        for number in self._calls:
            self._post_call(number)
        # Behind the calls: one of them may be what makes a stream that is asked for here.
        self._post({"t": "sub", "subs": subs})
        self._untold.update(dict.fromkeys(self._receiving))
        self.events.append(Ready())
        self.wake()

    def _on_granted(self, header: Header) -> None:
        for sid, (offset, limit, ended) in header["in"].items():
            self._arrived[sid] = (int(offset), int(limit), bool(ended))
        for agent, role, epoch in header["granted"]:
            grant = self._grants.get((agent, role))
            if grant is None:
                continue
            if role == DRIVER:
                grant["epoch"] = epoch
            # Granted is told once for each time it was asked for, not again at each handshake.
            if (agent, role) in self._asked:
                del self._asked[agent, role]
                offset = self._arrived.get(f"a/{agent}/in", (0, 0, False))[0] if role == DRIVER else 0
                self.events.append(Granted(agent, role, epoch, offset))
        for agent, role, reason in header["refused"]:
            self.drop(agent, role)
            self.events.append(Refused(agent, role, reason))

    def _on_answer(self, header: Header) -> None:
        if self._calls.pop(header["i"], None) is not None:
            self._sent_calls.discard(header["i"])
            self.events.append(Answered(header["i"], bool(header["ok"]), header["v"]))

    def _on_shut(self, sid: str) -> None:
        if sid in self._opened:
            self._opened.discard(sid)
            self.events.append(Shut(sid))

    def _on_open(self, sid: str, agent: str, meta: dict[str, Any]) -> None:
        if sid not in self._opened:
            self._opened.add(sid)
            self.events.append(Opened(sid, agent, meta))


def _subscription(stream: RecvStream) -> list[object]:
    if stream.offset is None:
        return [stream.sid, -1, stream.window]
    return [stream.sid, stream.offset, stream.limit]
