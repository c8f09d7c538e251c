"""One carrier as the guest sees it come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agenthost.wire.fields import text
from agenthost.wire.frames import Decoder, Header, ProtocolError, encode
from agenthost.wire.settings import WIRE_VERSION

if TYPE_CHECKING:
    from agenthost.wire.guest import GuestHub, GuestLink


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
        """Take bytes; ProtocolError means: close the carrier. What is late on a closing one is ignored."""
        if self.closing:
            return
        if self.link is not None:
            self.link.heard(now)
        try:
            for header, payload in self._decoder.feed(data):
                if self.link is None:
                    self._first(header, now)
                else:
                    # Bytes of their own: a view would keep all that it was cut out of.
                    self.link.deliver(header, bytes(payload), now)
                # Before the next frame: it may be about what this one made.
                self._hub.look(self.link)
                if self.closing:
                    return
        except ProtocolError:
            self.closing = True
            raise

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
        if not self.closing:
            self.closing = True
            self.on_close()

    def lost(self) -> None:
        """Take note that the carrier has ended."""
        self.closing = True
        if self.link is not None and self.link.carrier is self:
            self.link.carrier = None
            self.link.detach()

    def _first(self, header: Header, now: float) -> None:
        try:
            if header["t"] != "auth":
                raise ProtocolError("the first frame is not auth")
            self._authenticate(
                text(header["link"]), list(header["grants"]), raw=header["raw"] is True, now=now
            )
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise ProtocolError("the first frame is not a good auth") from exc

    def _authenticate(self, link_id: str, grants: list[dict[str, Any]], *, raw: bool, now: float) -> None:
        """Let in who shows one right token and no wrong one."""
        if not link_id or not grants:
            raise ProtocolError("auth without a link or a grant")
        reasons = [self._hub.allows(grant) for grant in grants]
        if None in reasons and "token" not in reasons:
            self.binary = raw
            self.link = self._hub.link(link_id)
            self.link.welcome(self, grants, now=now)
            return
        for grant, reason in zip(grants, reasons):  # noqa: B905 - `strict` would only say what the line above does
            if reason is not None:
                shown = {"agent": grant["agent"], "role": grant["role"], "number": grant["n"]}
                self._out.append(encode({"t": "deny", **shown, "reason": reason}))
        self.displace()
