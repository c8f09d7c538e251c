"""The guest's end: one hub, many links, one carrier each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from agenthost.wire.events import Called, DriverChanged, Event, LinkForgotten, Stopped
from agenthost.wire.frames import Decoder, Header, ProtocolError, encode
from agenthost.wire.peer import Peer
from agenthost.wire.settings import WIRE_VERSION, WireSettings
from agenthost.wire.streams import LineInput, RecvStream, SendStream
from agenthost.wire.tokens import CONTROL, DRIVER, OBSERVER, matches


class Door:
    """Who may come to one agent, and who drives it."""

    def __init__(self, agent: str, digests: dict[str, str], settings: WireSettings) -> None:
        self.agent = agent
        self.digests = digests
        self.epoch = 0
        self.driver: str | None = None  # a link id
        self.input = LineInput(f"a/{agent}/in", window=settings.window, max_line=settings.max_input_line)
        # Streams that only the driver may send: the input, and answers to what the agent asked.
        self.inputs: dict[str, RecvStream] = {self.input.sid: self.input}
        # Streams that the guest opened by itself and the driver is told of.
        self.opened: dict[str, dict[str, Any]] = {}


class GuestHub:
    """Everything that outlives a carrier: links, agents' doors, streams.

    ``wake`` of a link and ``on_close`` of a carrier tell the owner when to look at them.
    """

    def __init__(self, boot_id: str, control_digest: str, settings: WireSettings | None = None) -> None:
        self.boot_id = boot_id
        self.settings = settings or WireSettings()
        self._control_digest = control_digest
        self.links: dict[str, GuestLink] = {}
        self.doors: dict[str, Door] = {}
        self._streams: dict[str, tuple[SendStream, str | None, str | None]] = {}  # stream, agent, link
        self.events: deque[Event] = deque()
        # Called after each frame, so that the owner acts before the next one is looked at.
        self.look: Callable[[GuestLink | None], None] = lambda _link: None

    # ---- for the owner

    def open_carrier(self, *, now: float) -> GuestCarrier:
        """Return the state of a carrier that has just come in."""
        return GuestCarrier(self, now=now)

    def add_agent(self, agent: str, digests: dict[str, str]) -> Door:
        """Let drivers and observers come to an agent; ``digests`` by role."""
        door = self.doors[agent] = Door(agent, digests, self.settings)
        return door

    def remove_agent(self, agent: str) -> None:
        """Forget an agent and its streams."""
        self.doors.pop(agent, None)
        for sid in [sid for sid, (_, owner, _) in self._streams.items() if owner == agent]:
            self.remove_stream(sid)

    def add_stream(self, stream: SendStream, *, agent: str | None = None, link: str | None = None) -> None:
        """Make a stream readable, by those who may read the agent or by one link."""
        self._streams[stream.sid] = (stream, agent, link)

    def remove_stream(self, sid: str) -> None:
        """Forget a stream."""
        self._streams.pop(sid, None)

    def offer(self, agent: str, sid: str, meta: dict[str, Any], answer: RecvStream) -> None:
        """Tell the driver of a stream that the guest opened, and expect an answer stream for it."""
        door = self.doors[agent]
        door.opened[sid] = meta
        door.inputs[answer.sid] = answer
        link = self.links.get(door.driver or "")
        if link is not None:
            link.expect(answer)
            link.tell_open(sid, agent, meta)

    def withdraw(self, agent: str, sid: str, answer_sid: str) -> None:
        """Take an offer back, or be done with it."""
        self.remove_stream(sid)
        door = self.doors.get(agent)
        if door is None:
            return
        door.opened.pop(sid, None)
        door.inputs.pop(answer_sid, None)
        link = self.links.get(door.driver or "")
        if link is not None:
            link.forget(sid, answer_sid)

    def consumed(self, stream: RecvStream, count: int) -> None:
        """Take note that the owner is done with ``count`` bytes of a stream, whoever sends it now."""
        stream.consume(count)
        if stream.credit_is_due():
            for link in self.links.values():
                link.tell_credit(stream.sid)

    def tick(self, now: float) -> None:
        """Forget links that were silent for too long."""
        for link_id, link in list(self.links.items()):
            if not link.connected and now - link.last_heard >= self.settings.forget_link_after:
                link.close()
                del self.links[link_id]
                for sid in [sid for sid, (_, _, owner) in self._streams.items() if owner == link_id]:
                    self.remove_stream(sid)
                self.events.append(LinkForgotten(link_id))

    # ---- for links

    def find_stream(self, sid: str, link: GuestLink) -> SendStream | None:
        """Return a stream if this link may read it."""
        found = self._streams.get(sid)
        if found is None:
            return None
        stream, agent, owner = found
        if agent is not None:
            return stream if agent in link.roles else None
        return stream if link.control and owner in (None, link.link_id) else None

    def may_acknowledge(self, sid: str, link: GuestLink) -> bool:
        """Only the driver's acknowledgements count for an agent's streams."""
        found = self._streams.get(sid)
        if found is None:
            return False
        agent = found[1]
        return agent is None or link.roles.get(agent) == DRIVER

    def is_owner(self, sid: str, link: GuestLink) -> bool:
        """Return whether a stream belongs to this link alone."""
        found = self._streams.get(sid)
        return found is not None and found[2] == link.link_id

    def allows(self, grant: dict[str, Any]) -> str | None:
        """Return None when the token is right, else the reason why not."""
        agent, role, token = str(grant["agent"]), grant["role"], str(grant["token"])
        if role == CONTROL:
            return None if matches(token, self._control_digest) else "token"
        if role not in (DRIVER, OBSERVER):
            return "token"
        door = self.doors.get(agent)
        if door is None:
            return "unknown"
        return None if matches(token, door.digests.get(role, "")) else "token"


class GuestLink(Peer):
    """The guest's end of one link."""

    def __init__(self, hub: GuestHub, link_id: str) -> None:
        super().__init__(hub.settings)
        self.link_id = link_id
        self.control = False
        self.roles: dict[str, str] = {}
        self.carrier: GuestCarrier | None = None
        self._hub = hub
        self._done = 0
        self._answers: dict[int, Header | None] = {}

    # ---- for the owner

    def answer(self, call: int, *, ok: bool, value: Any) -> None:
        """Answer a call. Kept until the host is done with it, and sent again when it asks again."""
        if call in self._answers:
            header: Header = {"t": "ans", "i": call, "ok": ok, "v": value}
            self._answers[call] = header
            if self.flowing:
                self._post(header)

    def expect(self, stream: RecvStream) -> None:
        """Take bytes of this stream from the host."""
        self._receiving[stream.sid] = stream

    def tell_credit(self, sid: str) -> None:
        """Tell the host of new credit, when it is this link that sends the stream."""
        if sid in self._receiving:
            self._tell(sid)

    def refuse(self, sid: str) -> None:
        """Take no more bytes of a stream, and say so."""
        if self._receiving.pop(sid, None) is not None and self.flowing:
            self._post({"t": "stop", "s": sid})

    def close(self) -> None:
        """Let go of every stream."""
        for sid in list(self._reading):
            self._unread(sid)
        self._receiving.clear()
        for agent, role in self.roles.items():
            door = self._hub.doors.get(agent)
            if role == DRIVER and door is not None and door.driver == self.link_id:
                door.driver = None

    # ---- for the hub and the carrier

    def tell_open(self, sid: str, agent: str, meta: dict[str, Any]) -> None:
        """Tell the host of a stream that the guest opened."""
        if self.flowing:
            self._post({"t": "open", "s": sid, "agent": agent, "meta": meta})

    def forget(self, sid: str, answer_sid: str) -> None:
        """Be done with such a stream and its answer."""
        self._unread(sid)
        self.refuse(answer_sid)
        if self.flowing:
            self._post({"t": "shut", "s": sid})

    def welcome(self, carrier: GuestCarrier, grants: list[dict[str, Any]], *, new: bool, now: float) -> None:
        """Go on over this carrier, which has authenticated."""
        old, self.carrier = self.carrier, carrier
        if old is not None:
            old.displace()
        self.attach(binary=carrier.binary, now=now)
        self.control, roles = False, self.roles
        self.roles = {}
        report = self._admit(grants)
        for agent, role in roles.items():
            if role == DRIVER and self.roles.get(agent) != DRIVER:
                self._lose(agent)
        for sid in list(self._reading):
            self._unread(sid)  # the host says anew from where it wants each
        self._post({"t": "have", "new": new, **report, "open": self._all_open()})

    def lose_driver(self, agent: str) -> None:
        """Another link drives the agent now."""
        self.roles.pop(agent, None)
        self._lose(agent)
        if self.flowing:
            self._post({"t": "superseded", "agent": agent})

    def _lose(self, agent: str) -> None:
        for sid in [sid for sid in self._receiving if sid.startswith(f"a/{agent}/")]:
            del self._receiving[sid]
        for sid in [sid for sid in self._reading if sid.startswith(f"a/{agent}/")]:
            self._unread(sid)

    def _admit(self, grants: list[dict[str, Any]]) -> Header:
        """Give the roles asked for; the tokens have been looked at."""
        granted: list[list[Any]] = []
        refused: list[list[Any]] = []
        for grant in grants:
            agent, role = str(grant["agent"]), str(grant["role"])
            reason = self._hub.allows(grant)
            if reason is None and role == DRIVER:
                reason = self._drive(self._hub.doors[agent], grant.get("epoch"))
            if reason is not None:
                refused.append([agent, role, reason])
                continue
            if role == CONTROL:
                self.control = True
            elif self.roles.get(agent) != DRIVER:
                self.roles[agent] = role
            granted.append([agent, role, self._hub.doors[agent].epoch if role == DRIVER else 0])
        arrived = {sid: [s.offset or 0, s.limit, s.ended] for sid, s in self._receiving.items()}
        return {"granted": granted, "refused": refused, "in": arrived}

    def _drive(self, door: Door, epoch: object) -> str | None:
        """Become the driver. A reconnect shows its epoch and never raises it."""
        if epoch is not None and epoch != door.epoch:
            return "superseded"
        if door.driver != self.link_id:
            if epoch is not None and door.driver is not None:
                return "superseded"
            if epoch is None:
                old = self._hub.links.get(door.driver or "")
                door.epoch += 1
                door.input.rewind()
                if old is not None:
                    old.lose_driver(door.agent)
                self._hub.events.append(DriverChanged(door.agent, door.epoch))
            door.driver = self.link_id
        self.roles[door.agent] = DRIVER
        self._receiving.update(door.inputs)
        return None

    def _all_open(self) -> dict[str, list[Any]]:
        return {
            sid: [agent, meta]
            for agent, role in self.roles.items()
            if role == DRIVER
            for sid, meta in self._hub.doors[agent].opened.items()
        }

    # ---- frames

    def _frame(self, header: Header, payload: bytes) -> None:
        self._advance(header["z"])
        kind = header["t"]
        if kind == "call":
            self._on_call(header)
        elif kind in ("have", "sub"):
            if kind == "have":
                self.flowing = True
            for sid, offset, limit in header["subs"]:
                self._on_subscription(sid, offset, limit)
            self.wake()
        elif kind == "grant":
            self._on_grant(header["grants"])
        else:
            super()._frame(header, payload)

    def _advance(self, done: int) -> None:
        if done > self._done:
            self._done = done
            for call in [call for call in self._answers if call < done]:
                del self._answers[call]

    def _on_call(self, header: Header) -> None:
        call = int(header["i"])
        if call < self._done:
            return
        if call in self._answers:
            known = self._answers[call]
            if known is not None:
                self._post(known)
            return
        self._answers[call] = None
        self.events.append(Called(call, str(header["m"]), dict(header["p"])))

    def _on_subscription(self, sid: str, offset: int, limit: int) -> None:
        stream = self._hub.find_stream(sid, self)
        if stream is None:
            self._post({"t": "none", "s": sid})
            return
        if offset < 0:
            offset, limit = stream.spool.base, stream.spool.base + limit
        if offset > stream.end_offset:
            raise ProtocolError(f"stream {sid}: {offset} asked for, {stream.end_offset} written")
        self._read(stream, sent=offset, limit=limit)

    def _on_grant(self, grants: list[dict[str, Any]]) -> None:
        report = self._admit(grants)
        self._post({"t": "granted", **report})
        for sid, (agent, meta) in self._all_open().items():
            self.tell_open(sid, agent, meta)

    def _on_received(self, stream: RecvStream) -> None:
        # What has arrived here is safe: with the guest's death the sandbox's work is lost anyway.
        stream.acked = stream.offset or 0
        stream.credit_is_due()
        self._tell(stream.sid)

    def _may_acknowledge(self, sid: str) -> bool:
        return self._hub.may_acknowledge(sid, self)

    def _stopped(self, stream: SendStream) -> None:
        if self._hub.is_owner(stream.sid, self):
            stream.stop()
            self.events.append(Stopped(stream.sid))


class GuestCarrier:
    """One incoming carrier, from ``hello`` to its end.

    The owner closes the carrier when ``closing`` is true and ``take`` has nothing more.
    """

    def __init__(self, hub: GuestHub, *, now: float) -> None:
        self.binary = False  # the host says in auth whether its carrier is byte-clean
        self.closing = False
        self.link: GuestLink | None = None
        self.on_close: Callable[[], None] = lambda: None
        self._hub = hub
        self._opened_at = now
        settings = hub.settings
        self._decoder = Decoder(max_line=settings.max_line, max_payload=settings.binary_payload)
        self._out = [encode({"t": "hello", "wire": WIRE_VERSION, "boot": hub.boot_id})]

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes. Raises ProtocolError: close the carrier."""
        for header, payload in self._decoder.feed(data):
            if self.closing:
                return
            if self.link is None:
                try:
                    self._authenticate(header, now)
                except (KeyError, TypeError, ValueError, AttributeError) as exc:
                    raise ProtocolError("the first frame is not a good auth") from exc
            else:
                self.link.deliver(header, payload, now)
            # Before the next frame: it may be about what this one made.
            self._hub.look(self.link)

    def take(self, budget: int, now: float) -> bytes:
        """Return frames to send."""
        hello = b"".join(self._out)
        self._out.clear()
        if self.link is not None and self.link.carrier is self:
            return hello + self.link.take(budget, now)
        return hello

    def tick(self, now: float) -> None:
        """Close when it has not authenticated in time, or is silent."""
        if self.link is None:
            if now - self._opened_at >= self._hub.settings.auth_within:
                self.displace()
        elif self.link.carrier is self and not self.link.tick(now):
            self.displace()

    def displace(self) -> None:
        """Have the owner close this carrier."""
        self.closing = True
        self.on_close()

    def lost(self) -> None:
        """Take note that the carrier has ended."""
        self.closing = True
        if self.link is not None and self.link.carrier is self:
            self.link.carrier = None
            self.link.detach()

    def _authenticate(self, header: Header, now: float) -> None:
        if header["t"] != "auth":
            raise ProtocolError("the first frame is not auth")
        link_id, grants = str(header["link"]), list(header["grants"])
        self.binary = header["raw"] is True
        if not grants:
            raise ProtocolError("auth without a grant")
        for grant in grants:
            if self._hub.allows(grant) == "token":
                self._out.append(encode({"t": "deny", "agent": grant["agent"], "role": grant["role"]}))
                self.displace()
                return
        link = self._hub.links.get(link_id)
        new = link is None
        if link is None:
            link = self._hub.links[link_id] = GuestLink(self._hub, link_id)
        self.link = link
        link.welcome(self, grants, new=new, now=now)
