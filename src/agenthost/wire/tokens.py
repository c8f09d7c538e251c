"""Tokens: what a host proves to have. The guest holds only their verifiers."""

from __future__ import annotations

import hashlib
import hmac

from agenthost.wire.x25519 import public_key

CONTROL = "control"
DRIVER = "driver"
OBSERVER = "observer"
ROLES = (CONTROL, DRIVER, OBSERVER)


def derive_token(secret: bytes, *, sandbox: str, nonce: str, agent: str, role: str) -> str:
    """Return the token for one role; ``agent`` is empty for control. 256 bits, hexadecimal."""
    if role not in ROLES:
        raise ValueError(f"{role!r} is no role; roles are {', '.join(ROLES)}")
    return _derive(secret, sandbox, nonce, agent, role).hex()


def derive_guest_key(secret: bytes, *, sandbox: str, nonce: str) -> bytes:
    """Return the key that proves the guest of one sandbox to its hosts: 32 bytes."""
    return _derive(secret, sandbox, nonce, "guest")


def _derive(secret: bytes, *names: str) -> bytes:
    parts = [name.encode() for name in names]
    # Lengths before the parts: ("a", "bc") and ("ab", "c") must not meet.
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.digest(secret, message, "sha256")


def private_key(token: str) -> bytes:
    """Return the private key that a token stands for."""
    return hashlib.sha256(b"agenthost token " + token.encode()).digest()


def verifier(token: str) -> str:
    """Return what the guest keeps of a token, hexadecimal: it recognises who has the token, and is none."""
    return public_key(private_key(token)).hex()
