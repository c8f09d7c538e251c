"""One carrier as the guest sees it come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agenthost.wire.fields import natural, text
from agenthost.wire.frames import Header, ProtocolError, encode
from agenthost.wire.handshake import fresh_nonce, is_proof, make_seals, make_transcript, share
from agenthost.wire.peer import new_decoder
from agenthost.wire.seals import Seal
from agenthost.wire.settings import WIRE_VERSION
from agenthost.wire.x25519 import public_key

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
        self._decoder = new_decoder(hub.settings)
        self._hello: Header = {
            "t": "hello",
            "wire": WIRE_VERSION,
            "boot": hub.boot_id,
            "nonce": fresh_nonce(),
            "key": public_key(hub.private).hex(),
        }
        self._transcript = b""
        self.seal: Seal | None = None  # of what is sent, when this carrier takes seals
        self._out = [encode(self._hello)]

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

    def reasons(self, grants: list[dict[str, Any]], proofs: list[Any]) -> list[str | None]:
        """Return for each grant None when its proof is right, else the reason why not.

        Raises:
            ProtocolError: They are malformed.
        """
        if len(grants) != len(proofs):
            raise ProtocolError("grants without proofs, or proofs without grants")
        return [self._reason(grant, proof) for grant, proof in zip(grants, proofs)]  # noqa: B905 - as many, see above

    def _reason(self, grant: dict[str, Any], proof: object) -> str | None:
        agent, role, shown = text(grant["agent"]), text(grant["role"]), text(proof)
        natural(grant["n"])
        verifier = self._hub.verifier_for(agent, role)
        if verifier is None:
            return "unknown"
        if not verifier:
            return "token"
        shared = share(self._hub.private, verifier)
        return None if is_proof(shown, shared, self._transcript, grant) else "token"

    def _first(self, header: Header, now: float) -> None:
        try:
            if header["t"] != "auth":
                raise ProtocolError("the first frame is not auth")
            self._authenticate(header, now)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise ProtocolError("the first frame is not a good auth") from exc

    def _authenticate(self, auth: Header, now: float) -> None:
        """Let in who proves one token and fails with none."""
        link_id, grants = text(auth["link"]), list(auth["grants"])
        if not link_id or not grants:
            raise ProtocolError("auth without a link or a grant")
        if (self._hub.guest_key is not None) != ("key" in auth):
            raise ProtocolError("one end seals its frames, and the other does not")
        raw = auth["raw"] is True
        text(auth["nonce"])
        self._transcript = make_transcript(self._hello, auth)
        reasons = self.reasons(grants, list(auth["proofs"]))
        if self._hub.guest_key is not None:
            up, self.seal = make_seals(
                self._hub.guest_key, share(self._hub.private, auth["key"]), self._transcript
            )
            self._decoder.expect_seals(up)
        if None in reasons and "token" not in reasons:
            self.binary = raw
            self.link = self._hub.link(link_id)
            self.link.welcome(self, grants, reasons, now=now)
            return
        for grant, reason in zip(grants, reasons):  # noqa: B905 - `strict` would only say what the line above does
            if reason is not None:
                shown = {"agent": grant["agent"], "role": grant["role"], "number": grant["n"]}
                self._out.append(self._sealed(encode({"t": "deny", **shown, "reason": reason})))
        self.displace()

    def _sealed(self, frame: bytes) -> bytes:
        if self.seal is None:
            return frame
        self.seal.add(frame)
        return frame + self.seal.line() + b"\n"
