"""The guest's end: one hub, many links."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from agenthost.wire.doors import AGENT_METHODS, Door
from agenthost.wire.events import Called, DriverChanged, Event, LinkForgotten
from agenthost.wire.fields import natural, record, text
from agenthost.wire.frames import Data, Header, ProtocolError, encode
from agenthost.wire.incoming import GuestCarrier
from agenthost.wire.peer import Peer
from agenthost.wire.settings import WireSettings
from agenthost.wire.streams import RecvStream, SendStream
from agenthost.wire.tokens import CONTROL, DRIVER, OBSERVER


class GuestHub:
    """Everything that outlives a carrier: links, agents' doors, streams.

    ``wake`` of a link and ``on_close`` of a carrier tell the owner when to look at them.

    Args:
        boot_id: Random, new for each guest.
        control_verifier: Recognises who has the control token.
        settings: Sizes and times.
        guest_key: Proves this guest to its hosts; None where only a host can be at a carrier's other end, and
            nobody between: then nothing is sealed.
        private: The guest's own private key, 32 bytes; None makes one.
    """

    def __init__(
        self,
        boot_id: str,
        control_verifier: str,
        settings: WireSettings | None = None,
        *,
        guest_key: bytes | None,
        private: bytes | None = None,
    ) -> None:
        self.boot_id = boot_id
        self.settings = settings or WireSettings()
        self.guest_key = guest_key
        self.private = private or os.urandom(32)
        self._control_verifier = control_verifier
        self.links: dict[str, GuestLink] = {}
        self._next_link = 1
        self.doors: dict[str, Door] = {}
        self._streams: dict[str, tuple[SendStream, str | None, str | None]] = {}  # stream, agent, link
        self.events: deque[Event] = deque()
        # Called after each frame, so that the owner acts before the next one is looked at.
        self.look: Callable[[GuestLink | None], None] = lambda _link: None

    # ---- for the owner

    def open_carrier(self, *, now: float) -> GuestCarrier:
        """Return the state of a carrier that has just come in."""
        return GuestCarrier(self, now=now)

    def add_agent(self, agent: str, verifiers: dict[str, str]) -> Door:
        """Let drivers and observers come to an agent; ``verifiers`` by role. ValueError for a taken name."""
        if agent in self.doors:
            raise ValueError(f"there is an agent {agent!r} already")
        door = self.doors[agent] = Door(agent, verifiers, self.settings)
        return door

    def remove_agent(self, agent: str) -> None:
        """Forget an agent and its streams."""
        for link in self.links.values():
            link.leave(agent)
        self.doors.pop(agent, None)
        for sid in [sid for sid, (_, owner, _) in self._streams.items() if owner == agent]:
            self.remove_stream(sid)

    def add_stream(self, stream: SendStream, *, agent: str | None = None, link: str | None = None) -> None:
        """Make a stream readable, by those who may read the agent or by one link."""
        self._streams[stream.sid] = (stream, agent, link)

    def remove_stream(self, sid: str) -> None:
        """Forget a stream. Who has not read it to its end is told that there is no more of it, except that a
        stream which has ended is still read to its end by those who are at it."""
        if self._streams.pop(sid, None) is not None:
            for link in self.links.values():
                link.stream_removed(sid)

    def offer(self, agent: str, sid: str, meta: dict[str, Any], answer: RecvStream) -> None:
        """Tell the driver of a stream that the guest opened, and expect an answer stream for it."""
        door = self.doors[agent]
        door.opened[sid] = meta
        door.inputs[answer.sid] = answer
        link = self.driver_of(door)
        if link is not None:
            link.expect(answer)
            link.tell_open(
                sid, agent, meta, early=link.flowing and len(door.opened) <= self.settings.early_offers
            )

    def withdraw(self, agent: str, sid: str, answer_sid: str) -> None:
        """Take an offer back, or be done with it."""
        self.remove_stream(sid)
        door = self.doors.get(agent)
        if door is None:
            return
        door.opened.pop(sid, None)
        door.inputs.pop(answer_sid, None)
        link = self.driver_of(door)
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
                self.forget_link(link_id)

    def forget_link(self, link_id: str) -> None:
        """Forget a link and its streams, now: LinkForgotten follows, where it was known."""
        link = self.links.pop(link_id, None)
        if link is None:
            return
        link.close()
        for door in self.doors.values():
            door.asked.pop(link_id, None)
        for sid in [sid for sid, (_, _, owner) in self._streams.items() if owner == link_id]:
            self.remove_stream(sid)
        self.events.append(LinkForgotten(link_id))

    # ---- for links

    def link(self, link_id: str) -> GuestLink:
        """Return a link, a new one if this is not known, or was forgotten."""
        link = self.links.get(link_id)
        if link is None:
            link = self.links[link_id] = GuestLink(self, link_id, self._next_link)
            self._next_link += 1
        return link

    def driver_of(self, door: Door) -> GuestLink | None:
        """Return the link that drives an agent."""
        return None if door.driver is None else self.links.get(door.driver)

    def agent_of(self, sid: str) -> str | None:
        """Return the agent that a stream belongs to."""
        found = self._streams.get(sid)
        return None if found is None else found[1]

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

    def verifier_for(self, agent: str, role: str) -> str | None:
        """Return what recognises who may have a role; empty for no one, None for an unknown agent."""
        if role == CONTROL:
            return self._control_verifier
        if role not in (DRIVER, OBSERVER):
            return ""
        door = self.doors.get(agent)
        return None if door is None else door.verifiers.get(role, "")


class GuestLink(Peer):
    """The guest's end of one link.

    Args:
        hub: What this link is one of.
        link_id: The host's name for it.
        number: The guest's own: a link that was forgotten comes back with another.
    """

    early: ClassVar[frozenset[str]] = frozenset(["have", "ping", "pong"])

    def __init__(self, hub: GuestHub, link_id: str, number: int) -> None:
        super().__init__(hub.settings)
        self.link_id = link_id
        self.number = number
        self.control = False
        self.roles: dict[str, str] = {}  # the stronger one of each agent
        self.carrier: GuestCarrier | None = None
        self._hub = hub
        self._observed: set[str] = set()
        self._done = 0
        self._answers: dict[int, Header | None] = {}
        self._agent_calls: set[int] = set()  # those of them that an agent's driver was allowed, not control

    # ---- for the owner

    def answer(self, call: int, *, ok: bool, value: Any) -> None:
        """Answer a call. Kept until the host is done with it, and sent again when it asks again.

        Raises:
            TypeError: ``value`` is not JSON.
            ValueError: It is too long for a frame, which would end every carrier: send it as a stream.
        """
        if call in self._answers:
            header: Header = {"t": "ans", "i": call, "ok": ok, "v": value}
            if len(encode(header)) > self.settings.max_line:
                raise ValueError("an answer is too long for one frame")
            self._answers[call] = header
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
        if self._receiving.pop(sid, None) is not None:
            self._post({"t": "stop", "s": sid})

    def close(self) -> None:
        """Let go of every stream."""
        for sid in list(self._reading):
            self._unread(sid)
        self._receiving.clear()
        for agent in list(self.roles):
            self._lose(agent, DRIVER)

    # ---- for the hub and the carrier
    # What is posted from here on goes behind ``have``, which is queued as soon as a carrier is there.

    def tell_open(self, sid: str, agent: str, meta: dict[str, Any], *, early: bool = False) -> None:
        """Tell the host of a stream that the guest opened, and send its beginning before the host asks."""
        header: Header = {"t": "open", "s": sid, "agent": agent, "meta": meta}
        stream = self._hub.find_stream(sid, self) if early else None
        if stream is not None:
            header["early"] = True
            self._read(stream, sent=0, limit=self.settings.initial_window)
        self._post(header)

    def forget(self, sid: str, answer_sid: str) -> None:
        """Be done with such a stream and its answer."""
        self._unread(sid)
        self.refuse(answer_sid)
        self._post({"t": "shut", "s": sid})

    def stream_removed(self, sid: str) -> None:
        """There is no such stream any more."""
        reading = self._reading.get(sid)
        if reading is not None and (reading.stream.stopped or not reading.stream.ended or reading.end_sent):
            self._unread(sid)
            self._post({"t": "none", "s": sid})

    def leave(self, agent: str) -> None:
        """Have no role with an agent any more."""
        self._lose(agent, OBSERVER)
        self._lose(agent, DRIVER)

    def welcome(
        self, carrier: GuestCarrier, grants: list[dict[str, Any]], reasons: list[str | None], *, now: float
    ) -> None:
        """Go on over this carrier, which has authenticated; ``reasons`` say why not, for each grant."""
        old, self.carrier = self.carrier, carrier
        if old is not None:
            old.displace()
        self.attach(binary=carrier.binary, now=now)
        self._seal = carrier.seal
        for sid in list(self._reading):
            self._unread(sid)  # the host says anew from where it wants each
        self.control = False
        before = set(self.roles)
        for agent in self._observed - {g["agent"] for g in grants if g["role"] == OBSERVER}:
            self._lose(agent, OBSERVER)
        for agent in before - {g["agent"] for g in grants if g["role"] == DRIVER}:
            self._lose(agent, DRIVER)
        report = self._admit(grants, reasons)
        self._post({"t": "have", "link": self.number, **report, "open": self._all_open()})

    def lose_driver(self, agent: str, epoch: int) -> None:
        """Another link drives the agent now, and not this one any more, which did in this epoch."""
        # First, so that the host knows why there is no more of the agent's streams.
        self._post({"t": "superseded", "agent": agent, "epoch": epoch})
        self._lose(agent, DRIVER)

    def _lose(self, agent: str, role: str) -> None:
        """Give up a role. What may not be read any more is told to be none."""
        if role == OBSERVER:
            self._observed.discard(agent)
            if self.roles.get(agent) != OBSERVER:
                return
        elif self.roles.get(agent) == DRIVER:
            door = self._hub.doors[agent]
            door.driver = None
            for sid in door.inputs:
                self._receiving.pop(sid, None)
        else:
            return
        del self.roles[agent]
        if agent in self._observed:
            self.roles[agent] = OBSERVER
            return
        for sid in [sid for sid in self._reading if self._hub.agent_of(sid) == agent]:
            self._unread(sid)
            self._post({"t": "none", "s": sid})

    def _admit(self, grants: list[dict[str, Any]], reasons: list[str | None]) -> Header:
        """Give the roles asked for, where there is no reason not to."""
        granted: list[list[Any]] = []
        refused: list[list[Any]] = []
        for grant, denied in zip(grants, reasons):  # noqa: B905 - 3.10 and one for each, see GuestCarrier.reasons
            agent, role, number = grant["agent"], grant["role"], grant["n"]
            epoch = 0
            reason = denied
            if reason is None and role == DRIVER:
                door = self._hub.doors[agent]
                reason = self._drive(door, grant.get("epoch"), number)
                epoch = door.epoch
            if reason is not None:
                refused.append([agent, role, reason, number])
                continue
            if role == CONTROL:
                self.control = True
            elif role == OBSERVER:
                self._observed.add(agent)
                self.roles.setdefault(agent, OBSERVER)
            granted.append([agent, role, epoch, number])
        arrived = {sid: [s.offset or 0, s.limit, s.ended] for sid, s in self._receiving.items()}
        return {"granted": granted, "refused": refused, "in": arrived}

    def _drive(self, door: Door, epoch: object, asked: int) -> str | None:
        """Become the driver. A reconnect shows its epoch and never raises it."""
        if epoch is not None:
            if epoch != door.epoch or door.driver not in (None, self.link_id):
                self._lose(door.agent, DRIVER)
                return "superseded"
        elif asked <= door.asked.get(self.link_id, 0) and door.driver not in (None, self.link_id):
            return "superseded"  # our answer to this was lost, and another has come meanwhile
        elif door.driver != self.link_id or asked > door.asked.get(self.link_id, 0):
            old = self._hub.driver_of(door)
            if old is not None and old is not self:
                old.lose_driver(door.agent, door.epoch)
            door.epoch += 1
            door.input.rewind()
            self._hub.events.append(DriverChanged(door.agent, door.epoch))
        door.driver = self.link_id
        door.asked[self.link_id] = asked
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

    def _frame(self, header: Header, payload: Data) -> None:
        self._advance(natural(header["z"]))
        kind = header["t"]
        if kind == "call":
            self._on_call(natural(header["i"]), text(header["m"]), record(header["p"]))
        elif kind == "have":
            if self.flowing:
                raise ProtocolError("a second handshake")
            self.flowing = True
            self.wake()
        elif kind == "sub":
            for sid, offset, limit in header["subs"]:
                self._post({"t": "subbed", "s": text(sid)})
                self._on_subscription(sid, offset, natural(limit))
            self.wake()
        elif kind == "grant":
            self._on_grant(list(header["grants"]), list(header["proofs"]))
        elif kind == "drop":
            self._on_drop(text(header["agent"]), header["role"])
        else:
            super()._frame(header, payload)

    def _advance(self, done: int) -> None:
        if done > self._done:
            self._done = done
            for call in [call for call in self._answers if call < done]:
                del self._answers[call]
                self._agent_calls.discard(call)

    def _on_call(self, call: int, method: str, params: dict[str, Any]) -> None:
        if call < self._done:
            return
        if call in self._answers:
            # What the driver of an agent was allowed is answered also when it drives no more: it was done.
            allowed = self.control or call in self._agent_calls
        else:
            allowed = self.control or self._may_call(method, params)
        if not allowed:
            message = f"{method!r} wants a role that this link does not have"
            value = {"type": "AccessDenied", "message": message}
            self._post({"t": "ans", "i": call, "ok": False, "v": value})
        elif call in self._answers:
            known = self._answers[call]
            if known is not None:
                self._post(known)
        else:
            self._answers[call] = None
            if not self.control:
                self._agent_calls.add(call)
            self.events.append(Called(call, method, params))

    def _may_call(self, method: str, params: dict[str, Any]) -> bool:
        """Return whether a driver may do this to its agent."""
        # Parameters that come as a stream could name another agent than these.
        agent = params.get("agent")
        if type(agent) is not str or self.roles.get(agent) != DRIVER:
            return False
        return method in AGENT_METHODS and "$body" not in params

    def _on_subscription(self, sid: str, offset: int, limit: int) -> None:
        stream = self._hub.find_stream(sid, self)
        if stream is None:
            self._post({"t": "none", "s": sid})
        elif offset == -1:
            base = stream.spool.base
            self._read(stream, sent=base, limit=base + limit, from_oldest=True)
        elif natural(offset) > stream.end_offset:
            # An error of the one who kept the cursor. To end the carrier would only bring the same again.
            self._post({"t": "gap", "s": sid, "w": offset, "o": stream.spool.base})
        else:
            self._read(stream, sent=offset, limit=limit)

    def _on_grant(self, grants: list[dict[str, Any]], proofs: list[Any]) -> None:
        assert self.carrier is not None
        report = self._admit(grants, self.carrier.reasons(grants, proofs))
        self._post({"t": "granted", **report})
        for sid, (agent, meta) in self._all_open().items():
            self.tell_open(sid, agent, meta)

    def _on_drop(self, agent: str, role: str) -> None:
        if role == CONTROL:
            self.control = False
        else:
            self._lose(agent, role)

    def _on_received(self, stream: RecvStream) -> None:
        # What has arrived here is safe: with the guest's death the sandbox's work is lost anyway.
        stream.acked = stream.offset or 0
        stream.credit_is_due()
        self._tell(stream.sid)

    def _on_end_sent(self, stream: SendStream) -> None:
        # Only acknowledgements may still come, and only some count. After a cut the host asks anew.
        if stream.acked == stream.end_offset or not self._may_acknowledge(stream.sid):
            self._unread(stream.sid)

    def _may_acknowledge(self, sid: str) -> bool:
        return self._hub.may_acknowledge(sid, self)

    def _on_stop(self, sid: str) -> None:
        # Also when it was not read over this carrier: the word may have been lost with an earlier one.
        self._unread(sid)
        stream = self._hub.find_stream(sid, self)
        if stream is not None and self._hub.is_owner(sid, self):
            self._stopped(stream)
        self._post({"t": "stopped", "s": text(sid)})
