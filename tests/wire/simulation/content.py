"""What the simulated streams carry: any byte at any offset is known, so a shift or a mix-up shows."""

from __future__ import annotations

from functools import lru_cache
from random import Random

from agenthost.wire.tokens import derive_guest_key, derive_token

GUEST_KEY = derive_guest_key(b"secret", sandbox="box", nonce="nonce")
# Private keys of guests and links: few, because agreeing takes milliseconds once for each pair.
KEYS = [bytes([number]) * 32 for number in range(1, 5)]
_BLOCK = 1021  # prime, so that no power of two hides a shift


@lru_cache(maxsize=256)
def _block(sid: str) -> bytes:
    return Random(sid).randbytes(_BLOCK)


def content(sid: str, start: int, size: int) -> bytes:
    """Return the bytes ``start`` to ``start + size`` of a stream."""
    block = _block(sid)
    skip = start % _BLOCK
    return (block * ((skip + size) // _BLOCK + 1))[skip : skip + size]


@lru_cache(maxsize=64)
def token(agent: str, role: str, nonce: str = "nonce") -> str:
    """Return the token of a role in the simulated sandbox; ``agent`` is empty for control."""
    return derive_token(b"secret", sandbox="box", nonce=nonce, agent=agent, role=role)
