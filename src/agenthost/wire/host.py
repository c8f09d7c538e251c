"""The host's end of a link."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from agenthost.wire.events import (
    Answered,
    Ended,
    Forgotten,
    Granted,
    Hello,
    Missing,
    Opened,
    Ready,
    Received,
    Refused,
    Shut,
    Stopped,
    Unproven,
    WireVersion,
)
from agenthost.wire.fields import natural, record, text
from agenthost.wire.frames import Data, Header, ProtocolError, SealError, encode
from agenthost.wire.handshake import fresh_nonce, make_seals, make_transcript, prove, share
from agenthost.wire.peer import MOST_STREAMS, Peer, Reading
from agenthost.wire.settings import WIRE_VERSION, WireSettings
from agenthost.wire.spool import MemorySpool
from agenthost.wire.streams import RecvStream, SendStream
from agenthost.wire.tokens import DRIVER, private_key
from agenthost.wire.x25519 import public_key

_STAMP = 64  # bytes that a stamp may add to a frame
MOST_OPENED = 256  # model requests of one agent under way; the guest lets an agent have 64
_OF_SUBSCRIPTIONS = frozenset(["d", "end", "gap", "none"])


class HostLink(Peer):
    """One link per host process and sandbox, over as many carriers as it takes.

    Args:
        link_id: Random, unique to this process and sandbox.
        settings: Sizes and times.
        guest_key: What proves the guest; None where nobody else can be at a carrier's other end, nor between:
            then nothing is sealed.
        boot_id: The guest's boot, when known from before: another one gets no proof.
        private: The link's own private key, 32 bytes; None makes one.
    """

    early: ClassVar[frozenset[str]] = frozenset(["hello", "deny", "have", "ping", "pong"])

    def __init__(
        self,
        link_id: str,
        settings: WireSettings | None = None,
        *,
        guest_key: bytes | None,
        boot_id: str | None = None,
        private: bytes | None = None,
    ) -> None:
        super().__init__(settings or WireSettings())
        self.link_id = link_id
        self.boot_id = boot_id
        self._guest_key = guest_key
        self._private = private or os.urandom(32)
        self._hello: Header | None = None  # what this carrier brought
        self._shown = False  # and was shown our proofs
        self._transcript = b""
        self._plain: list[bytes] = []  # to be sent before anything is sealed
        self._grants: dict[tuple[str, str], dict[str, Any]] = {}
        self._keys: dict[tuple[str, str], bytes] = {}  # private, of the grants' tokens
        self._asked: set[tuple[str, str]] = set()  # grants that the guest has not answered yet
        self._next_grant = 1
        self._calls: dict[int, Header] = {}  # by number, so that the first is the lowest
        self._sent_calls: set[int] = set()
        self._next_call = 1
        self._known_as: int | None = None  # the guest's number for this link: another one has forgotten us
        self._opened: dict[str, str] = {}  # streams that the guest opened, and their agents
        # What came of them before ``subscribe``: as many per agent as there are ``early_offers``.
        self._early: dict[str, list[bytes]] = {}
        self._arrived: dict[str, tuple[int, int, bool]] = {}  # what the guest holds of our streams
        # Subscriptions that the guest has not seen yet: what comes for them until then is for an older one.
        self._unseen: dict[str, int] = {}
        # Subscriptions that were given up, until the guest says that it knows: nobody else would tell it to
        # let go of what it keeps for them.
        self._stopping: dict[str, None] = {}

    def attach(self, *, binary: bool, now: float) -> None:
        """A new carrier is there. It shows nothing and takes nothing before the guest's ``hello``."""
        super().attach(binary=binary, now=now)
        self._hello, self._shown, self._transcript = None, False, b""
        self._plain.clear()
        self._unseen.clear()

    def detach(self) -> None:
        """The carrier is gone."""
        super().detach()
        self._plain.clear()

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the carrier. Raises as every Peer's does; Unproven may say why."""
        try:
            super().receive(data, now)
        except SealError:
            if not self.flowing:  # the very first seal, which is what proves the guest
                self.events.append(Unproven())
            raise

    def take(self, budget: int, now: float) -> bytes:
        """Return frames to send, as every Peer's does."""
        plain = b"".join(self._plain)
        self._plain.clear()
        return plain + super().take(budget, now)

    @property
    def has_output(self) -> bool:
        """True when ``take`` may return something."""
        return bool(self._plain) or super().has_output

    # ---- roles

    def grant(self, agent: str, role: str, token: str) -> None:
        """Ask for a role. Granted or Refused follows, now or after the next handshake.

        Asking again for an agent that this link drives makes a new driver, as another process would be.
        """
        self.drop(agent, role)
        # The number tells the same question asked again, after a cut, from a new one.
        number, self._next_grant = self._next_grant, self._next_grant + 1
        self._grants[agent, role] = {"agent": agent, "role": role, "n": number}
        self._keys[agent, role] = private_key(token)
        self._asked.add((agent, role))
        if self.flowing:
            self._post_grants([(agent, role)])

    def drop(self, agent: str, role: str) -> None:
        """Give a role back. With a driver's go its streams to the agent: their writers see them stopped."""
        if self._forget_role(agent, role) and self.flowing:
            self._post({"t": "drop", "agent": agent, "role": role})

    def _forget_role(self, agent: str, role: str) -> bool:
        self._asked.discard((agent, role))
        self._keys.pop((agent, role), None)
        if self._grants.pop((agent, role), None) is None:
            return False
        if role == DRIVER:
            for sid in [sid for sid in self._reading if sid.startswith(f"a/{agent}/")]:
                self._give_up(sid)
            for sid in [sid for sid, owner in self._opened.items() if owner == agent]:
                del self._opened[sid]  # told anew to the next driver
                self._forget_early(sid)
        return True

    def _post_grants(self, wanted: list[tuple[str, str]]) -> None:
        grants = [self._grants[key] for key in wanted]
        self._post({"t": "grant", "grants": grants, "proofs": self._proofs(wanted)})

    def _proofs(self, wanted: list[tuple[str, str]]) -> list[str]:
        """Prove to this carrier's guest that these grants' tokens are here."""
        assert self._hello is not None
        guest = self._hello["key"]
        return [prove(share(self._keys[key], guest), self._transcript, self._grants[key]) for key in wanted]

    def _refused(self, agent: str, role: str, reason: str) -> None:
        if self._forget_role(agent, role):
            self.events.append(Refused(agent, role, reason))

    # ---- calls

    def call(self, method: str, params: dict[str, Any]) -> int:
        """Have the guest do something, once. Answered (or Forgotten) follows.

        Raises:
            TypeError: ``params`` are not JSON.
            ValueError: They are too long for a frame, which would end every carrier: send them as a stream.
        """
        number = self._next_call
        header: Header = {"t": "call", "i": number, "m": method, "p": params}
        if len(encode(header)) > self.settings.max_line - _STAMP:
            raise ValueError(f"the parameters of {method!r} are too long for one frame")
        self._next_call += 1
        self._calls[number] = header
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
        arrived, limit, ended = self._arrived.get(sid, (base, base + self.settings.initial_window, False))
        self._read(stream, sent=max(base, arrived), limit=limit)
        if ended:
            self._give_up(sid)
        return stream

    def _give_up(self, sid: str) -> None:
        """The guest takes no more of a stream of ours."""
        stream = self._unread(sid)
        if stream is not None:
            stream.stop()
            self.events.append(Stopped(sid))

    def drop_send_stream(self, sid: str) -> None:
        """Send nothing more of a stream."""
        self._unread(sid)

    def subscribe(self, sid: str, *, offset: int | None = 0, window: int | None = None) -> RecvStream:
        """Ask for a stream from ``offset`` on; None asks for the oldest byte kept.

        Received and Ended follow at once for what the guest has sent of an offer before.
        """
        if sid in self._early and offset == 0:
            return self._take_early(sid, window or self.settings.window)
        self._forget_early(sid)
        stream = RecvStream(sid, offset=offset, window=window or self.settings.window)
        self._receiving[sid] = stream
        self._stopping.pop(sid, None)
        if self.flowing:
            self._post_subscriptions([stream])
        return stream

    def _take_early(self, sid: str, window: int) -> RecvStream:
        stream = self._receiving[sid]
        stream.widen(window)
        if stream.credit_is_due():
            self._tell(sid)
        self.events.extend(Received(sid, data) for data in self._early.pop(sid))
        if stream.ended:
            self.events.append(Ended(sid))
        return stream

    def _forget_early(self, sid: str) -> None:
        if self._early.pop(sid, None) is not None:
            self._receiving.pop(sid, None)

    def _on_data(self, sid: str, offset: int, payload: Data) -> None:
        if sid in self._early:
            new = self._receiving[sid].receive(natural(offset), payload)
            if new:
                self._early[sid].append(bytes(new))
        else:
            super()._on_data(sid, offset, payload)

    def _on_end(self, sid: str, offset: int) -> None:
        if sid in self._early:
            self._receiving[sid].finish(natural(offset))
        else:
            super()._on_end(sid, offset)

    def _post_subscriptions(self, streams: list[RecvStream]) -> None:
        if not streams:
            return
        for stream in streams:
            self._unseen[stream.sid] = self._unseen.get(stream.sid, 0) + 1
        self._post({"t": "sub", "subs": [_subscription(stream) for stream in streams]})

    def unsubscribe(self, sid: str) -> None:
        """Ask for no more of a stream; what is on its way is dropped."""
        self._early.pop(sid, None)
        stream = self._receiving.pop(sid, None)
        if stream is not None and not stream.ended:
            self._stopping[sid] = None
            if self.flowing:
                self._post({"t": "stop", "s": sid})

    # ---- the handshake

    def _stamped(self, header: Header) -> Header:
        return {**header, "z": next(iter(self._calls), self._next_call)}

    def _frame(self, header: Header, payload: Data) -> None:
        kind = header["t"]
        if kind in _OF_SUBSCRIPTIONS and header["s"] in self._unseen:
            return
        if kind == "hello":
            self._on_hello(header)
        elif kind == "have":
            self._on_have(header)
        elif kind == "granted":
            self._on_granted(header)
        elif kind == "ans":
            self._on_answer(header)
        elif kind == "subbed":
            self._on_subbed(header["s"])
        elif kind == "stopped":
            self._stopping.pop(header["s"], None)
        elif kind == "open":
            sid = text(header["s"])
            if (
                self._on_open(sid, text(header["agent"]), record(header["meta"]))
                and header.get("early") is True
            ):
                self._expect_early(sid)
        elif kind == "shut":
            self._on_shut(header["s"])
        elif kind == "none":
            self._forget_early(header["s"])
            stream = self._receiving.pop(header["s"], None)
            if stream is not None and not stream.ended:
                self.events.append(Missing(stream.sid))
        elif kind == "superseded":
            agent = header["agent"]
            grant = self._grants.get((agent, DRIVER))
            if grant is not None and grant.get("epoch") == header["epoch"]:  # else it is about an older one
                self._refused(agent, DRIVER, "superseded")
        elif kind == "deny":
            if not self._shown or self.flowing:
                raise ProtocolError("a denial of nothing")
            grant = self._grants.get((header["agent"], header["role"]))
            if grant is not None and grant["n"] == header["number"]:
                self._refused(header["agent"], header["role"], text(header["reason"]))
        else:
            if kind == "gap":
                self._forget_early(header["s"])
            super()._frame(header, payload)

    def _on_hello(self, header: Header) -> None:
        if self._hello is not None:
            raise ProtocolError("a second hello")
        self._hello = header
        if header["wire"] != WIRE_VERSION:
            self.events.append(WireVersion(header["wire"]))
            return
        boot_id = text(header["boot"])
        self.events.append(Hello(boot_id))
        if self.boot_id in (None, boot_id):  # prove nothing to another machine
            self._introduce(header)

    def _introduce(self, hello: Header) -> None:
        """Answer a hello: prove what this link has, and seal what comes behind."""
        text(hello["nonce"])
        auth: Header = {"t": "auth", "link": self.link_id, "raw": self.binary, "nonce": fresh_nonce()}
        if self._guest_key is not None:
            auth["key"] = public_key(self._private).hex()
        auth["grants"] = [dict(grant) for grant in self._grants.values()]
        self._transcript = make_transcript(hello, auth)
        auth["proofs"] = self._proofs(list(self._grants))
        if self._guest_key is not None:
            shared = share(self._private, hello["key"])
            self._seal, down = make_seals(self._guest_key, shared, self._transcript)
            self._decoder.expect_seals(down)
        self._plain.append(encode(auth))
        self._shown = True
        self.wake()

    def _on_have(self, header: Header) -> None:
        if not self._shown or self.flowing or self._hello is None:
            raise ProtocolError("a handshake that was not asked for")
        self.boot_id = self._hello["boot"]  # not before: now it is the guest that said so
        known_as = natural(header["link"])
        if self._known_as not in (None, known_as):
            lost = tuple(number for number in self._calls if number in self._sent_calls)
            for number in lost:
                self.abandon(number)
            self.events.append(Forgotten(lost))
        self._known_as = known_as
        self.flowing = True
        self._arrived.clear()
        returned = self._on_granted(header)
        for sid, reading in list(self._reading.items()):
            self._go_on(sid, reading)
        opened = record(header["open"])
        for sid in self._opened.keys() - opened.keys():
            self._on_shut(sid)
        for sid, (agent, meta) in opened.items():
            self._on_open(sid, text(agent), record(meta))
        # What has ended but is not acknowledged to its end is asked for too, so that it can be.
        wanted = [s for s in self._receiving.values() if not s.ended or s.acked < (s.offset or 0)]
        self._post({"t": "have"})
        for agent, role in returned:
            self._post({"t": "drop", "agent": agent, "role": role})
        if self._asked:  # asked for after the proofs were sent
            self._post_grants(sorted(self._asked))
        for number in self._calls:
            self._post_call(number)
        # Behind the calls: one of them may be what makes a stream that is asked for, or given up, here.
        self._post_subscriptions(wanted)
        for sid in self._stopping:
            self._post({"t": "stop", "s": sid})
        self._untold.update(dict.fromkeys(self._receiving))
        self.events.append(Ready())
        self.wake()

    def _go_on(self, sid: str, reading: Reading) -> None:
        """Go on with one of our streams where the guest is."""
        stream = reading.stream
        start = stream.acked
        fresh = (start, start + self.settings.initial_window, False)
        reading.sent, reading.limit, reading.end_sent = self._arrived.get(sid, fresh)
        stream.acknowledge(reading.sent)
        self._due[sid] = None
        if reading.end_sent and not (stream.ended and stream.end_offset == reading.sent):
            self._give_up(sid)  # ended by an earlier driver: it takes no more

    def _on_granted(self, header: Header) -> list[tuple[str, str]]:
        """Take note of what was granted. Returns what is not wanted any more."""
        returned: list[tuple[str, str]] = []
        for sid, (offset, limit, ended) in record(header["in"]).items():
            self._arrived[text(sid)] = (natural(offset), natural(limit), ended is True)
        if len(self._arrived) > MOST_STREAMS:
            raise ProtocolError(f"the guest claims to receive more than {MOST_STREAMS} streams")
        for agent, role, epoch, number in header["granted"]:
            grant = self._grants.get((agent, role))
            if grant is None:
                returned.append((agent, role))
            if grant is None or grant["n"] != number:
                continue  # given back, or asked for anew
            if role == DRIVER:
                grant["epoch"] = natural(epoch)
            # Granted is told once for each time it was asked for, not again at each handshake.
            if (agent, role) in self._asked:
                self._asked.discard((agent, role))
                offset, _, ended = self._arrived.get(f"a/{agent}/in" if role == DRIVER else "", (0, 0, False))
                self.events.append(Granted(agent, role, natural(epoch), offset, ended))
        for agent, role, reason, number in header["refused"]:
            grant = self._grants.get((agent, role))
            if grant is not None and grant["n"] == number:
                self._refused(agent, role, text(reason))
        return returned

    def _on_ack(self, sid: str, offset: int, limit: int) -> None:
        known = self._arrived.get(sid)
        if known is not None:  # also when nobody writes that stream yet: it is not told again
            self._arrived[sid] = (max(known[0], natural(offset)), max(known[1], natural(limit)), known[2])
        super()._on_ack(sid, offset, limit)

    def _on_answer(self, header: Header) -> None:
        if self._calls.pop(header["i"], None) is not None:
            self._sent_calls.discard(header["i"])
            self.events.append(Answered(header["i"], bool(header["ok"]), header["v"]))

    def _on_subbed(self, sid: str) -> None:
        self._unseen[sid] -= 1
        if self._unseen[sid] == 0:
            del self._unseen[sid]

    def _on_shut(self, sid: str) -> None:
        self._forget_early(sid)
        if self._opened.pop(sid, None) is not None:
            self.events.append(Shut(sid))

    def _on_open(self, sid: str, agent: str, meta: dict[str, Any]) -> bool:
        """Take note of an offer. True the first time."""
        # On its way when the role was given back: told anew to whom the role is given next.
        if sid not in self._opened and "epoch" in self._grants.get((agent, DRIVER), ()):
            if sum(owner == agent for owner in self._opened.values()) >= MOST_OPENED:
                raise ProtocolError(f"an agent has more than {MOST_OPENED} model requests under way")
            self._opened[sid] = agent
            self.events.append(Opened(sid, agent, {"answer": text(meta["answer"])}))
            return True
        return False

    def _expect_early(self, sid: str) -> None:
        """Take the beginning of an offer before it is asked for, unless the agent has too many."""
        agent = self._opened[sid]
        waiting = sum(self._opened.get(other) == agent for other in self._early)
        if sid not in self._receiving and waiting < self.settings.early_offers:
            self._early[sid] = []
            self._receiving[sid] = RecvStream(sid, offset=0, window=self.settings.initial_window)


def _subscription(stream: RecvStream) -> list[object]:
    if stream.offset is None:
        return [stream.sid, -1, stream.window]
    return [stream.sid, stream.offset, stream.limit]
