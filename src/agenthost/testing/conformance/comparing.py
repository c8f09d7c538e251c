"""Compare what is large.

``assert got == wanted`` has pytest look for a readable difference, which takes hours for a few hundred
kilobytes; where the variable CI is set it cuts nothing short.
"""

from __future__ import annotations

from typing import AnyStr

_STEP = 65536
_SHOWN = 20


def check_same(got: AnyStr, wanted: AnyStr) -> None:
    """Compare text or bytes of any size.

    Raises:
        AssertionError: They differ; it says how long they are and where they begin to.
    """
    if got == wanted:
        return
    at, shorter = 0, min(len(got), len(wanted))
    while at < shorter and got[at : at + _STEP] == wanted[at : at + _STEP]:
        at += _STEP
    while at < shorter and got[at] == wanted[at]:
        at += 1
    at = min(at, shorter)
    raise AssertionError(
        f"{len(got)} came instead of {len(wanted)}; from {at} on it is {got[at : at + _SHOWN]!r} "
        f"instead of {wanted[at : at + _SHOWN]!r}"
    )
