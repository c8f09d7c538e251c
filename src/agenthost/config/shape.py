"""Which keys may stand where: a walk through the types of the tables."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

Path = tuple[str | int, ...]


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def models(annotation: Any) -> tuple[type[BaseModel], ...]:
    """Return the tables that may stand in the place of this type."""
    return tuple(one for one in members(annotation) if isinstance(one, type) and issubclass(one, BaseModel))


def below(annotation: Any, key: str | int) -> Any:
    """Return the type of what stands under a key; None when no such key is known."""
    for one in members(annotation):
        if get_origin(one) is dict and isinstance(key, str):
            return get_args(one)[1]
        if get_origin(one) is list and isinstance(key, int):
            return get_args(one)[0]
        if isinstance(one, type) and issubclass(one, BaseModel) and key in one.model_fields:
            return one.model_fields[str(key)].annotation
    return None


def at(annotation: Any, path: Path) -> Any:
    """Return the type of what stands at a path; None when it is not known."""
    for key in path:
        annotation = below(annotation, key)
    return annotation


def keys(annotation: Any) -> tuple[str, ...]:
    """Return the keys of the tables that may stand in the place of this type."""
    return tuple(name for one in models(annotation) for name in one.model_fields)


def takes_any_key(annotation: Any) -> bool:
    """Tell whether a table of any keys may stand here."""
    return any(get_origin(one) is dict for one in members(annotation))


def choices(annotation: Any) -> tuple[str, ...]:
    """Return the words of which one may stand here."""
    literal = [one for one in members(annotation) if get_origin(one) is Literal]
    return tuple(word for one in literal for word in get_args(one) if isinstance(word, str))


def is_list(annotation: Any) -> bool:
    """Tell whether a list may stand here."""
    return any(get_origin(one) is list for one in members(annotation))
