"""A guest's hub and the ends that talk to it, joined without delay; and ends that speak by hand."""

from __future__ import annotations

from typing import Any

from wire.simulation.content import token

from agenthost.wire import events
from agenthost.wire.events import Event
from agenthost.wire.frames import Decoder, encode, encode_data
from agenthost.wire.guest import GuestHub, GuestLink
from agenthost.wire.host import HostLink
from agenthost.wire.incoming import GuestCarrier
from agenthost.wire.settings import WireSettings
from agenthost.wire.streams import SendStream
from agenthost.wire.tokens import CONTROL, DRIVER, OBSERVER, digest

ALL = 1 << 30  # a budget without end


def make_hub(*agents: str, settings: WireSettings | None = None, boot_id: str = "boot") -> GuestHub:
    """Return a hub with these agents."""
    hub = GuestHub(boot_id, digest(token("", CONTROL)), settings)
    for agent in agents:
        hub.add_agent(agent, {role: digest(token(agent, role)) for role in (DRIVER, OBSERVER)})
    return hub


def make_host(
    link_id: str = "link", *, control: bool = False, drives: str = "", observes: str = "", **options: Any
) -> HostLink:
    """Return a host's end that asks for these roles; agents have names of one letter."""
    link = HostLink(link_id, **options)
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


def parse(data: bytes) -> list[dict[str, Any]]:
    """Return the headers of frames."""
    return [header for header, _ in Decoder(max_line=ALL, max_payload=ALL).feed(data)]


class HandMadeHost:
    """Speaks the host's part frame by frame, right or wrong."""

    def __init__(self, hub: GuestHub, now: float = 0.0) -> None:
        self.carrier: GuestCarrier = hub.open_carrier(now=now)

    def send(self, *frames: dict[str, Any], now: float = 0.0) -> list[dict[str, Any]]:
        """Send frames and return what comes back."""
        for frame in frames:
            self.carrier.receive(encode({"z": 1, **frame}), now)
        return self.answers(now)

    def send_data(self, sid: str, offset: int, data: bytes) -> list[dict[str, Any]]:
        """Send a data frame."""
        self.carrier.receive(encode_data({"t": "d", "s": sid, "o": offset, "z": 1}, data, binary=False), 0.0)
        return self.answers()

    def answers(self, now: float = 0.0) -> list[dict[str, Any]]:
        """Return what came."""
        return parse(self.carrier.take(ALL, now))

    def auth(self, *grants: dict[str, Any], link: str = "link") -> list[dict[str, Any]]:
        """Show tokens."""
        return self.send({"t": "auth", "link": link, "raw": True, "grants": list(grants)})

    def shake(self, *grants: dict[str, Any], link: str = "link") -> list[dict[str, Any]]:
        """Show tokens and end the handshake."""
        return self.auth(*grants, link=link) + self.send({"t": "have"})


def shown(agent: str, role: str, *, number: int = 1, **more: Any) -> dict[str, Any]:
    """Return a grant with its right token."""
    return {"agent": agent, "role": role, "token": token(agent, role), "n": number, **more}


class HandMadeGuest:
    """Speaks the guest's part to a host's end frame by frame, right or wrong."""

    def __init__(self, host: HostLink, now: float = 0.0) -> None:
        self.host = host
        host.attach(binary=True, now=now)

    def send(self, *frames: dict[str, Any]) -> list[dict[str, Any]]:
        """Send frames and return what comes back."""
        for frame in frames:
            self.host.receive(encode(frame), 0.0)
        return parse(self.host.take(ALL, 0.0))

    def shake(self, *, link: int = 1, boot: str = "boot", **more: Any) -> list[dict[str, Any]]:
        """Do the guest's part of a handshake, and grant what was asked for."""
        (auth,) = self.send({"t": "hello", "wire": 1, "boot": boot})
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
