"""A bound on JSON from the other end, looked at before it becomes objects.

A parser makes some 100 bytes of memory out of the 3 bytes of ``{},``: a line of 20 MB takes 660 MB. What
is counted here are the bytes of structure, those outside of strings, by searches in C; and only of a text
that is long enough to hold too many. How deeply a text is nested is bounded by the parser itself.
"""

from __future__ import annotations

import json
import re
from typing import Any

# Values of one text: 500,000 take 50 to 120 MB as objects. The largest honest ones are listings.
MOST_VALUES = 500_000
_STRUCTURE = b"[{,"
_STRING = re.compile(rb'"[^"]*"')


class JsonBoundsError(ValueError):
    """A JSON text holds more values, or deeper ones, than are taken."""


def load_json(text: bytes) -> Any:
    """Return what a JSON text holds.

    Raises:
        JsonBoundsError: It holds too many values, or is nested too deeply.
        ValueError: It is not JSON.
    """
    check_values(text)
    try:
        return json.loads(text)
    except RecursionError:
        raise JsonBoundsError("a JSON text is nested too deeply") from None


def check_values(text: bytes, *, most: int = MOST_VALUES) -> None:
    """Refuse a JSON text that holds too many values. Whether it is JSON at all is not looked at.

    Raises:
        JsonBoundsError: It holds more than ``most`` values.
    """
    # Each value but the first has a byte and a comma of its own. What stands in strings is counted at first.
    if len(text) <= 2 * most or values_at_most(text) <= most:
        return
    plain = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    # A key and a value for each comma; and no more pieces than that for the next line to cut out.
    if plain.count(b'"') > 4 * most + 2 or values_at_most(_STRING.sub(b"", plain)) > most:
        raise JsonBoundsError(f"a JSON text holds more than {most} values")


def values_at_most(text: bytes) -> int:
    """Return a number that the values in a JSON text do not exceed: commas in strings count, too."""
    return len(text) - len(text.translate(None, _STRUCTURE)) + 1
