"""Tokens: what a host shows to the guest, which holds only their digests."""

from __future__ import annotations

import hashlib
import hmac

CONTROL = "control"
DRIVER = "driver"
OBSERVER = "observer"
ROLES = (CONTROL, DRIVER, OBSERVER)


def derive_token(secret: bytes, *, sandbox: str, nonce: str, agent: str, role: str) -> str:
    """Return the token for one role; ``agent`` is empty for control. 256 bits, hexadecimal."""
    if role not in ROLES:
        raise ValueError(f"{role!r} is no role; roles are {', '.join(ROLES)}")
    parts = [part.encode() for part in (sandbox, nonce, agent, role)]
    # Lengths before the parts: ("a", "bc") and ("ab", "c") must not meet.
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.new(secret, message, hashlib.sha256).hexdigest()


def digest(token: str) -> str:
    """Return what the guest keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def matches(token: str, expected_digest: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(digest(token), expected_digest)
