"""A model request's body as data: bounded before any of it is built, and with one meaning only."""

from __future__ import annotations

import json
from typing import Any, cast

from agenthost.wire.json_bounds import JsonBoundsError, check_values

# A conversation of a million tokens with a hundred tools has some 50,000 values. As objects of Python, the
# most that is allowed takes about 60 MB; a body of 64 MiB could hold 30 million values.
MOST_VALUES = 500_000


class BodyError(ValueError):
    """The body is not JSON that has one meaning. The message quotes nothing of it."""


def parse_body(body: bytes) -> dict[str, Any]:
    """Return the object that a body holds.

    A body that two parsers could read differently is refused: a name that is given twice, another encoding
    than UTF-8, NaN. What the host has checked is then what the API reads.

    Raises:
        BodyError: The body is not an object, is not valid JSON, has two meanings, holds more than
            ``MOST_VALUES`` values, or is nested more deeply than Python's parser goes (about 1,000 levels).
    """
    _check_size(body)
    try:
        value: object = json.loads(
            body.decode("utf-8"), object_pairs_hook=_one_meaning, parse_constant=_refuse_constant
        )
    except BodyError:
        raise
    except UnicodeDecodeError:
        raise BodyError("the body is not UTF-8") from None
    except RecursionError:
        raise BodyError("the body is nested too deeply") from None
    except ValueError:
        raise BodyError("the body is not valid JSON") from None
    if not isinstance(value, dict):
        raise BodyError("the body is not a JSON object")
    return cast("dict[str, Any]", value)


def _check_size(body: bytes) -> None:
    """Count values without building any. Whether the body is valid JSON is not looked at."""
    try:
        check_values(body, most=MOST_VALUES)
    except JsonBoundsError:
        raise BodyError(f"the body holds more than {MOST_VALUES} values") from None


def _one_meaning(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise BodyError("the body gives a name twice in one object")
    return made


def _refuse_constant(name: str) -> object:
    raise BodyError(f"the body holds {name}, which is not JSON")
