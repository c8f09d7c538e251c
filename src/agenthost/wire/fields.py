"""Taking fields out of frames: what came from the other end is checked before it is used."""

from __future__ import annotations

from typing import Any, cast

from agenthost.wire.frames import ProtocolError

# What taking apart a value of the wrong shape raises.
WRONG_SHAPE = (LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError)
LONGEST_NAME = 1024  # characters of the name of a stream, an agent, a role or a method


def natural(value: object) -> int:
    """Return an offset, a count or a number: an integer from 0 on. No float, no bool."""
    if type(value) is not int or value < 0:
        raise ProtocolError("a number in a frame is no natural number")
    return value


def text(value: object) -> str:
    """Return a name: a string that is not longer than names are."""
    if type(value) is not str:
        raise ProtocolError("a name in a frame is no string")
    if len(value) > LONGEST_NAME:
        raise ProtocolError(f"a name in a frame is longer than {LONGEST_NAME} characters")
    return value


def record(value: object) -> dict[str, Any]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise ProtocolError("a part of a frame is no object")
    return cast("dict[str, Any]", value)
