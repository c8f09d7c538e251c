"""What is large is compared without looking for a readable difference."""

from __future__ import annotations

import random

import pytest

from agenthost.testing.conformance.comparing import check_same

LARGE = random.Random(5).randbytes(1_000_000)


def test_what_is_the_same_passes() -> None:
    check_same(LARGE, bytes(LARGE))
    check_same("", "")


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (LARGE[:700_000], "700000 came instead of 1000000; from 700000 on it is b'' instead of"),
        (LARGE + b"more", "1000004 came instead of 1000000; from 1000000 on it is b'more' instead of b''"),
        (LARGE[:70_000] + b"!" + LARGE[70_001:], "from 70000 on it is b'!"),
        (b"", "0 came instead of 1000000; from 0 on"),
    ],
)
def test_what_differs_is_told_with_the_place_where_it_begins(got: bytes, said: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_same(got, LARGE)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300
