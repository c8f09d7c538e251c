"""X25519 (RFC 7748): a secret that two ends share, each from its own private and the other's public key.

The standard library has no such function. Python's integers do not take constant time.
"""

from __future__ import annotations

from functools import lru_cache

_P = 2**255 - 19
_BASE = (9).to_bytes(32, "little")
SIZE = 32  # bytes of a key, and of a shared secret


def public_key(private: bytes) -> bytes:
    """Return the public key of 32 private bytes."""
    return agree(private, _BASE)


# A handshake is repeated for each carrier, with the same keys as long as both processes live.
@lru_cache(maxsize=1024)
def agree(private: bytes, public: bytes) -> bytes:
    """Return the secret that the holder of ``private`` shares with the owner of ``public``.

    Raises:
        ValueError: ``public`` is not 32 bytes, or a key that makes every secret the same.
    """
    if len(public) != SIZE or len(private) != SIZE:
        raise ValueError("a key is not 32 bytes long")
    k = int.from_bytes(private, "little") & (2**254 - 8) | 2**254
    u = int.from_bytes(public, "little") & (2**255 - 1)
    x2, z2, x3, z3, swapped = 1, 0, u, 1, 0
    for position in range(254, -1, -1):
        bit = k >> position & 1
        if bit != swapped:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swapped = bit
        total, difference = x2 + z2, x2 - z2
        square, other = total * total % _P, difference * difference % _P
        left, right = (x3 - z3) * total % _P, (x3 + z3) * difference % _P
        x3, z3 = (left + right) ** 2 % _P, u * ((left - right) ** 2 % _P) % _P
        gap = square - other
        x2, z2 = square * other % _P, gap * (square + 121665 * gap) % _P
    if swapped:
        x2, z2 = x3, z3
    secret = x2 * pow(z2, _P - 2, _P) % _P
    if not secret:
        raise ValueError("a public key that makes every secret the same")
    return secret.to_bytes(SIZE, "little")
