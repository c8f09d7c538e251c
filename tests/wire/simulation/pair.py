"""A guest's hub and the ends that talk to it, joined without delay; and ends that speak by hand."""

from __future__ import annotations

from typing import Any

from wire.simulation.content import GUEST_KEY, KEYS, token

from agenthost.wire import events
from agenthost.wire.events import Event
from agenthost.wire.frames import Decoder, encode, encode_data
from agenthost.wire.guest import GuestHub, GuestLink
from agenthost.wire.handshake import make_seals, make_transcript, prove
from agenthost.wire.host import HostLink
from agenthost.wire.incoming import GuestCarrier
from agenthost.wire.seals import Seal
from agenthost.wire.settings import WireSettings
from agenthost.wire.streams import SendStream
from agenthost.wire.tokens import CONTROL, DRIVER, OBSERVER, private_key, verifier
from agenthost.wire.x25519 import agree, public_key

ALL = 1 << 30  # a budget without end


def make_hub(
    *agents: str,
    settings: WireSettings | None = None,
    boot_id: str = "boot",
    guest_key: bytes | None = GUEST_KEY,
) -> GuestHub:
    """Return a hub with these agents."""
    control = verifier(token("", CONTROL))
    hub = GuestHub(boot_id, control, settings, guest_key=guest_key, private=KEYS[0])
    for agent in agents:
        hub.add_agent(agent, {role: verifier(token(agent, role)) for role in (DRIVER, OBSERVER)})
    return hub


def make_host(
    link_id: str = "link", *, control: bool = False, drives: str = "", observes: str = "", **options: Any
) -> HostLink:
    """Return a host's end that asks for these roles; agents have names of one letter."""
    options.setdefault("guest_key", GUEST_KEY)
    link = HostLink(link_id, private=KEYS[1], **options)
    if control:
        link.grant("", CONTROL, token("", CONTROL))
    for agent in drives:
        link.grant(agent, DRIVER, token(agent, DRIVER))
    for agent in observes:
        link.grant(agent, OBSERVER, token(agent, OBSERVER))
    return link


def journal(hub: GuestHub, agent: str, *, bound: int = 1 << 20) -> SendStream:
    """Give an agent its journal."""
    stream = SendStream(f"a/{agent}/out", bound=bound)
    hub.add_stream(stream, agent=agent)
    return stream


class Joint:
    """A host's end and a hub, on one carrier. Pending bytes are seen in ``up`` and ``down``."""

    def __init__(self, host: HostLink, hub: GuestHub, *, binary: bool = True, now: float = 0.0) -> None:
        self.host = host
        self.carrier = hub.open_carrier(now=now)
        host.attach(binary=binary, now=now)

    @property
    def guest(self) -> GuestLink:
        """The guest's end; there only after the handshake."""
        assert self.carrier.link is not None
        return self.carrier.link

    def run(self, now: float = 0.0) -> Joint:
        """Move bytes until there are no more. A carrier that the guest closes is cut."""
        while True:
            up = self.host.take(ALL, now)
            if up:
                self.carrier.receive(up, now)
            down = self.carrier.take(ALL, now)
            if down:
                self.host.receive(down, now)
            if not up and not down:
                break
        if self.carrier.closing:
            self.cut()
        return self

    def cut(self) -> None:
        """End the carrier; both ends know."""
        self.carrier.lost()
        self.host.detach()


def join(host: HostLink, hub: GuestHub, *, binary: bool = True, now: float = 0.0) -> Joint:
    """Join both and shake hands."""
    return Joint(host, hub, binary=binary, now=now).run(now)


def happened(end: HostLink | GuestLink | GuestHub, *kinds: type[Event]) -> list[Event]:
    """Return and forget what an end has to tell, all of it or only these kinds."""
    found = [event for event in end.events if not kinds or isinstance(event, kinds)]
    end.events.clear()
    return found


def received(end: HostLink | GuestLink, sid: str) -> bytes:
    """Return and forget the bytes that arrived on a stream."""
    found = [event for event in end.events if isinstance(event, events.Received) and event.sid == sid]
    end.events.clear()
    return b"".join(event.data for event in found)


def parse(data: bytes, seal: Seal | None = None) -> list[dict[str, Any]]:
    """Return the headers of frames; of sealed ones those whose seal is right."""
    decoder = Decoder(max_line=ALL, max_payload=ALL, max_unsealed=ALL)
    if seal is not None:
        decoder.expect_seals(seal)
    return [header for header, _ in decoder.feed(data)]


def sealed(seal: Seal | None, frame: bytes) -> bytes:
    """Return a frame with its seal, where there is one."""
    if seal is None:
        return frame
    seal.add(frame)
    return frame + seal.line() + b"\n"


class HandMadeHost:
    """Speaks the host's part frame by frame, right or wrong."""

    def __init__(self, hub: GuestHub, now: float = 0.0) -> None:
        self.hub = hub
        self.carrier: GuestCarrier = hub.open_carrier(now=now)
        self.up: Seal | None = None  # of this carrier, when it has shown what it has
        self.down: Seal | None = None
        self._hello: dict[str, Any] | None = None
        self._transcript = b""

    def send(self, *frames: dict[str, Any], now: float = 0.0) -> list[dict[str, Any]]:
        """Send frames and return what comes back."""
        for frame in frames:
            self.carrier.receive(sealed(self.up, encode({"z": 1, **frame})), now)
        return self.answers(now)

    def send_data(self, sid: str, offset: int, data: bytes) -> list[dict[str, Any]]:
        """Send a data frame."""
        frame = encode_data({"t": "d", "s": sid, "o": offset, "z": 1}, data, binary=False)
        self.carrier.receive(sealed(self.up, frame), 0.0)
        return self.answers()

    def answers(self, now: float = 0.0) -> list[dict[str, Any]]:
        """Return what came."""
        found = parse(self.carrier.take(ALL, now), self.down)
        for frame in found:
            if frame["t"] == "hello":
                self._hello = frame
        return found

    def grant(self, *grants: dict[str, Any]) -> dict[str, Any]:
        """Return the grants, whose tokens are shown, and their proofs, as a part of a frame."""
        assert self._hello is not None, "it has to be heard first"
        guest = bytes.fromhex(self._hello["key"])
        shown = [{name: grant[name] for name in grant if name != "token"} for grant in grants]
        keys = [private_key(grant["token"]) for grant in grants]
        proofs = [
            prove(agree(key, guest), self._transcript, grant) for key, grant in zip(keys, shown, strict=True)
        ]
        return {"grants": shown, "proofs": proofs}

    def auth(self, *grants: dict[str, Any], link: str = "link", **more: Any) -> list[dict[str, Any]]:
        """Prove that it has tokens."""
        if self._hello is None:
            self.answers()
        assert self._hello is not None
        shown = [{name: grant[name] for name in grant if name != "token"} for grant in grants]
        key = public_key(KEYS[1]).hex()
        auth = {"t": "auth", "link": link, "raw": True, "nonce": "n", "key": key, "grants": shown, **more}
        self._transcript = make_transcript(self._hello, auth)
        if "proofs" not in auth:
            auth["proofs"] = self.grant(*grants)["proofs"]
        self.carrier.receive(encode(auth), 0.0)
        if self.hub.guest_key is not None:
            shared = agree(KEYS[1], bytes.fromhex(self._hello["key"]))
            self.up, self.down = make_seals(self.hub.guest_key, shared, self._transcript)
        return self.answers()

    def shake(self, *grants: dict[str, Any], link: str = "link") -> list[dict[str, Any]]:
        """Prove that it has tokens, and end the handshake."""
        return self.auth(*grants, link=link) + self.send({"t": "have"})


def shown(agent: str, role: str, *, number: int = 1, **more: Any) -> dict[str, Any]:
    """Return a grant with its right token, which a HandMadeHost proves to have."""
    return {"agent": agent, "role": role, "token": token(agent, role), "n": number, **more}


def hello(**more: Any) -> dict[str, Any]:
    """Return a guest's first frame."""
    key = public_key(KEYS[0]).hex()
    return {"t": "hello", "wire": 2, "boot": "boot", "nonce": "n", "key": key, **more}


class HandMadeGuest:
    """Speaks the guest's part to a host's end frame by frame, right or wrong."""

    def __init__(self, host: HostLink, now: float = 0.0, *, guest_key: bytes | None = GUEST_KEY) -> None:
        self.host = host
        self.up: Seal | None = None
        self.down: Seal | None = None
        self._key = guest_key
        self._hello: dict[str, Any] = {}
        host.attach(binary=True, now=now)

    def send(self, *frames: dict[str, Any]) -> list[dict[str, Any]]:
        """Send frames and return what comes back."""
        for frame in frames:
            if frame["t"] == "hello":
                self._hello = frame
            self.host.receive(sealed(self.down, encode(frame)), 0.0)
        return self._answers(self.host.take(ALL, 0.0))

    def _answers(self, data: bytes) -> list[dict[str, Any]]:
        if self.up is not None or self._key is None:
            return parse(data, self.up)
        first, newline, rest = data.partition(b"\n")
        found = parse(first + newline)
        if found and found[0]["t"] == "auth":
            shared = agree(KEYS[0], bytes.fromhex(found[0]["key"]))
            transcript = make_transcript(self._hello, found[0])
            self.up, self.down = make_seals(self._key, shared, transcript)
            found += parse(rest, self.up)
        return found

    def shake(self, *, link: int = 1, boot: str = "boot", **more: Any) -> list[dict[str, Any]]:
        """Do the guest's part of a handshake, and grant what was asked for."""
        (auth,) = self.send(hello(boot=boot))
        granted = [[g["agent"], g["role"], g.get("epoch", 1), g["n"]] for g in auth["grants"]]
        have: dict[str, Any] = {
            "t": "have",
            "link": link,
            "granted": granted,
            "refused": [],
            "in": {},
            "open": {},
        }
        return self.send(have | more)
