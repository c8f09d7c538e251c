"""Bounds on JSON from the other end, looked at before it becomes objects.

A parser makes some 100 bytes of memory out of the 3 bytes of ``{},``: a line of 20 MB takes 660 MB. What is
counted here are the bytes of structure, those outside of strings, by searches in C: an ordinary line of
64 KiB takes some microseconds.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

# Values of one text: 500,000 take 50 to 120 MB as objects. The largest honest ones are listings.
MOST_VALUES = 500_000
DEEPEST = 400  # levels; the codec follows no more than that before Python's own limit
_PLENTY = 20_000  # values above which those in strings are told apart from the others
_STRING = re.compile(rb'"[^"]*"')
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {**dict.fromkeys(b"[{", 1), **dict.fromkeys(b"]}", -1)}


class JsonBoundsError(ValueError):
    """A JSON text has more values than are taken, or is nested more deeply."""


def load_json(text: bytes) -> Any:
    """Return what a JSON text holds. Raises as ``count_values`` does, and ValueError for what is not JSON."""
    count_values(text)
    return json.loads(text)


def count_values(text: bytes, *, most: int = MOST_VALUES) -> int:
    """Return about how many values a JSON text holds, never less than it does.

    Args:
        text: As it came; whether it is JSON at all is not looked at.
        most: How many values it may hold.

    Raises:
        JsonBoundsError: It holds more than ``most`` values, or is nested more deeply than 400 levels.
    """
    if len(text) <= 2 * DEEPEST:
        return len(text)
    # Also what stands in strings is counted at first: of nearly all texts that is few.
    opening = text.count(b"{") + text.count(b"[")
    count = opening + text.count(b",") + 1
    if opening <= DEEPEST and count <= min(most, _PLENTY):
        return count
    plain = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 4 * most + 2:  # a key and a value for each comma
        raise JsonBoundsError(f"a JSON text holds more than {most} values")
    outside = _STRING.sub(b"", plain)
    opening = outside.count(b"{") + outside.count(b"[")
    count = opening + outside.count(b",") + 1
    if count > most:
        raise JsonBoundsError(f"a JSON text holds more than {most} values")
    if opening > DEEPEST:
        brackets = outside.translate(None, _ALL_BUT_BRACKETS)
        if max(accumulate(map(_STEPS.__getitem__, brackets))) > DEEPEST:
            raise JsonBoundsError(f"a JSON text is nested more deeply than {DEEPEST} levels")
    return count
