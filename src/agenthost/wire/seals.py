"""Seals: lines by which a receiver knows that what came before them is what was sent, all of it, in order."""

from __future__ import annotations

import hmac

MARK = b"="  # a seal's line begins with it, and no frame does


class Seal:
    """Authenticates one direction of one carrier: a running HMAC of everything that it has carried."""

    def __init__(self, key: bytes) -> None:
        self._mac = hmac.new(key, digestmod="sha256")
        self.add = self._mac.update

    def line(self) -> bytes:
        """Return the seal of all that was added, without a newline."""
        return MARK + self._mac.hexdigest()[:32].encode()

    def check(self, line: bytes) -> bool:
        """Return whether this line is the seal of all that was added."""
        return hmac.compare_digest(line, self.line())
