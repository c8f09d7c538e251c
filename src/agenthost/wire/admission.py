"""Admission: how an HTTP request to a guest's port proves that a host made it."""

from __future__ import annotations

import hmac

HEADER = "x-agenthost-token"


def port_key(guest_key: bytes) -> bytes:
    """Return the key that a carrier's first request is signed with."""
    return hmac.digest(guest_key, b"agenthost port", "sha256")


def carrier_key(port: bytes, carrier: str, nonce: str) -> bytes:
    """Return the key of all other requests of one carrier.

    Args:
        port: The port's key.
        carrier: The carrier's name, which the host chose.
        nonce: What the guest chose for this carrier.
    """
    return hmac.digest(port, f"carrier {carrier} {nonce}".encode(), "sha256")


def sign(key: bytes, kind: str, carrier: str, *values: object) -> str:
    """Return a request's token, hexadecimal.

    Args:
        key: The port's key for the first request of a carrier, else the carrier's.
        kind: ``down`` or ``up``.
        carrier: The carrier's name.
        values: What else the request asks for: no value contains a space.
    """
    return hmac.digest(key, " ".join([kind, carrier, *map(str, values)]).encode(), "sha256").hex()


def is_signed(token: str, key: bytes, kind: str, carrier: str, *values: object) -> bool:
    """Return whether a request's token is right. Compare in constant time."""
    return hmac.compare_digest(token.encode(), sign(key, kind, carrier, *values).encode())
