"""Tokens: shown by hosts, held by the guest as digests only."""

from __future__ import annotations

import hashlib
import hmac
import inspect

import pytest

from agenthost.wire import tokens
from agenthost.wire.tokens import CONTROL, DRIVER, OBSERVER, ROLES, derive_token, digest, matches


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


def test_a_token_matches_its_own_digest_only() -> None:
    assert matches(_token(), digest(_token()))
    assert not matches(_token(), digest(_token(role=OBSERVER)))
    assert not matches("", digest(_token()))
    assert not matches(_token(), "")


def test_what_the_guest_holds_is_not_a_token() -> None:
    held = digest(_token())
    assert held == hashlib.sha256(_token().encode()).hexdigest()
    assert not matches(held, held)


def test_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []

    def compare(first: str, second: str) -> bool:
        compared.append((first, second))
        return True

    monkeypatch.setattr(hmac, "compare_digest", compare)
    matches("token", "held")
    assert compared == [(digest("token"), "held")]
    assert "==" not in inspect.getsource(tokens)
