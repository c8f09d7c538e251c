"""The handshake: what each end computes from the other's first frame.

T          SHA-256 of ``hello`` and of ``auth`` without its proofs
a proof    HMAC of T and a grant, under the secret of the token's key and the guest's
the seals  HMAC of all that a direction carries, under keys of this handshake
"""

from __future__ import annotations

import hashlib
import hmac
import os

from agenthost.wire.frames import Header, ProtocolError, encode
from agenthost.wire.seals import Seal
from agenthost.wire.x25519 import agree


def fresh_nonce() -> str:
    """Return what makes a handshake unlike every other: 128 random bits, hexadecimal."""
    return os.urandom(16).hex()


def make_transcript(hello: Header, auth: Header) -> bytes:
    """Return T. Each end writes what it understood, so that both have understood the same or T differs."""
    core = {name: value for name, value in auth.items() if name != "proofs"}
    return hashlib.sha256(b"agenthost wire 2\n" + encode(hello) + encode(core)).digest()


def share(private: bytes, key: object) -> bytes:
    """Return the secret of a private key and the other end's key, as that came in a frame.

    Raises:
        ProtocolError: ``key`` is not a public key.
    """
    try:
        return agree(private, bytes.fromhex(str(key)))
    except ValueError as exc:
        raise ProtocolError("a key in a frame is not a public key") from exc


def prove(shared: bytes, transcript: bytes, grant: Header) -> str:
    """Return the proof that goes with a grant, hexadecimal.

    Args:
        shared: The secret of the token's key and the guest's.
        transcript: T.
        grant: Its agent, role and number count.
    """
    named = encode({name: grant[name] for name in ("agent", "role", "n")})
    return hmac.digest(shared, b"agenthost grant\n" + transcript + named, "sha256").hex()


def is_proof(proof: str, shared: bytes, transcript: bytes, grant: Header) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(proof.encode(), prove(shared, transcript, grant).encode())


def make_seals(guest_key: bytes, shared: bytes, transcript: bytes) -> tuple[Seal, Seal]:
    """Return the seals of both directions, up to the guest and down to the host.

    Args:
        guest_key: What proves the guest.
        shared: The secret of both ends' own keys.
        transcript: T.
    """
    key = hmac.digest(guest_key, shared + transcript, "sha256")
    up, down = (Seal(hmac.digest(key, name, "sha256")) for name in (b"up", b"down"))
    return up, down
