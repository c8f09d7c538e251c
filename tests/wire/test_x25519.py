"""X25519, by the vectors of RFC 7748."""

from __future__ import annotations

import pytest

from agenthost.wire.x25519 import agree, public_key

ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
ALICE_PUBLIC = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
SHARED = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


@pytest.mark.parametrize(
    ("private", "public", "secret"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_a_secret_is_what_the_standard_says(private: str, public: str, secret: str) -> None:
    assert agree(bytes.fromhex(private), bytes.fromhex(public)).hex() == secret


def test_a_thousand_rounds_end_where_the_standard_says() -> None:
    key = point = (9).to_bytes(32, "little")
    for number in range(1000):
        key, point = agree(key, point), key
        if number == 0:
            assert key.hex() == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert key.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


def test_both_ends_agree() -> None:
    assert public_key(ALICE).hex() == ALICE_PUBLIC
    assert public_key(BOB).hex() == BOB_PUBLIC
    assert agree(ALICE, bytes.fromhex(BOB_PUBLIC)).hex() == SHARED
    assert agree(BOB, bytes.fromhex(ALICE_PUBLIC)).hex() == SHARED


@pytest.mark.parametrize(
    "point",
    [
        "00" * 32,
        "01" + "00" * 31,
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    ],
)
def test_a_key_with_which_every_secret_is_the_same_is_refused(point: str) -> None:
    with pytest.raises(ValueError, match="the same"):
        agree(ALICE, bytes.fromhex(point))


def test_a_key_of_another_length_is_refused() -> None:
    for private, public in ((ALICE, b"short"), (ALICE, bytes(33)), (b"short", bytes.fromhex(BOB_PUBLIC))):
        with pytest.raises(ValueError, match="32 bytes"):
            agree(private, public)
