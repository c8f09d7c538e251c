"""Tokens: proved by hosts; the guest holds only their verifiers."""

from __future__ import annotations

import inspect

import pytest

from agenthost.wire import handshake, seals
from agenthost.wire.tokens import (
    CONTROL,
    DRIVER,
    OBSERVER,
    ROLES,
    derive_guest_key,
    derive_token,
    private_key,
    verifier,
)
from agenthost.wire.x25519 import agree, public_key


def _token(
    secret: bytes = b"secret", *, sandbox: str = "box", nonce: str = "n", agent: str = "a", role: str = DRIVER
) -> str:
    return derive_token(secret, sandbox=sandbox, nonce=nonce, agent=agent, role=role)


def test_a_token_is_256_bits_in_hexadecimal() -> None:
    assert len(bytes.fromhex(_token())) == 32


def test_each_part_makes_another_token() -> None:
    found = {
        _token(),
        _token(b"other"),
        _token(sandbox="other"),
        _token(nonce="other"),
        _token(agent="other"),
        _token(role=OBSERVER),
        _token(role=CONTROL),
    }
    assert len(found) == 7


def test_parts_that_read_the_same_when_put_together_make_different_tokens() -> None:
    assert _token(sandbox="ab", nonce="c") != _token(sandbox="a", nonce="bc")
    assert _token(nonce="ab", agent="c") != _token(nonce="a", agent="bc")
    assert _token(nonce="", agent="x") != _token(nonce="x", agent="")
    assert _token(sandbox="a\0b", nonce="c") != _token(sandbox="a", nonce="b\0c")


def test_names_may_hold_any_character() -> None:
    assert _token(agent="ü☃\n") != _token(agent="u")


def test_only_the_three_roles_have_tokens() -> None:
    assert ROLES == ("control", "driver", "observer")
    with pytest.raises(ValueError, match="root"):
        _token(role="root")


def test_a_verifier_recognises_its_own_token_only() -> None:
    guest = bytes(range(32))

    def agreed(token: str, held: str) -> bool:
        return agree(private_key(token), public_key(guest)) == agree(guest, bytes.fromhex(held))

    assert agreed(_token(), verifier(_token()))
    assert not agreed(_token(), verifier(_token(role=OBSERVER)))
    assert not agreed("", verifier(_token()))


def test_what_the_guest_holds_is_not_a_token() -> None:
    held = verifier(_token())
    assert verifier(held) != held
    assert bytes.fromhex(held) not in (private_key(_token()), private_key(held))
    assert len({held, verifier(_token(role=OBSERVER)), verifier(_token(nonce="other"))}) == 3


def test_the_guests_key_is_its_sandboxs_alone_and_no_token() -> None:
    keys = {
        derive_guest_key(secret, sandbox=sandbox, nonce=nonce)
        for secret in (b"secret", b"other")
        for sandbox in ("box", "other")
        for nonce in ("n", "other")
    }
    assert len(keys) == 8
    assert all(len(key) == 32 for key in keys)
    assert not keys & {
        bytes.fromhex(_token(agent=agent, role=role)) for agent in ("", "guest") for role in ROLES
    }


def test_proofs_and_seals_are_compared_in_constant_time() -> None:
    for module in (handshake, seals):
        source = inspect.getsource(module)
        assert source.count("hmac.compare_digest(") == 1
        assert "==" not in source
