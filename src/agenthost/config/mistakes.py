"""What is wrong in a config, and where: never the value itself, which may be a secret."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from agenthost.config import shape
from agenthost.config.agent_table import NO_DATA
from agenthost.config.secrets import holds_secret, leaves, looks_secret
from agenthost.config.shape import Path
from agenthost.config.table import Reference

_FEW = 20  # keys that are all named where none is near

_EXPECTED = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "dict": "a table",
    "path": "a path",
}

_BOUNDS = {
    "greater_than": "above",
    "greater_than_equal": "of at least",
    "less_than": "below",
    "less_than_equal": "of at most",
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong."""

    path: Path
    text: str


def tell_path(path: Path) -> str:
    """Return a path as a person finds it in the file: ``[spec.limits] cpu``."""
    names = ["a key that looks like a secret" if looks_secret(str(part)) else part for part in path]
    tables: list[str] = []
    while len(names) > 1 and isinstance(names[0], str) and isinstance(names[1], str):
        tables.append(str(names.pop(0)))
    head = f"[{'.'.join(tables)}] " if tables else ""
    key = str(names.pop(0)) if names else ""
    for part in names:
        key += f"[{part}]" if isinstance(part, int) else f".{part}"
    return head + key


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the word that was probably meant."""
    folded = {name.lower().replace("-", "_"): name for name in known}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1)
    return folded[close[0]] if close else None


def find_secrets(tree: Mapping[str, Any]) -> list[Mistake]:
    """Return what is written down that must not be."""
    found: list[Mistake] = []
    for path, value in leaves(tree):
        if any(looks_secret(str(part)) for part in path):
            found.append(Mistake(path, "it is refused and not shown: a secret stands in no file"))
        elif isinstance(value, datetime.date | datetime.time):
            found.append(Mistake(path, "expected no date or time; text stands in quotes"))
        elif isinstance(value, str) and path[:2] == ("spec", "env") and holds_secret(path):
            text = "providers show a sandbox's environment, so no secret belongs there: use [agent.env]"
            found.append(Mistake(path, text))
        elif isinstance(value, str) and looks_secret(value):
            text = "what stands there looks like a secret and is not shown: give "
            found.append(Mistake(path, text + Reference.shown))
        elif isinstance(value, str) and holds_secret(path):
            found.append(Mistake(path, f"a secret is expected: give {Reference.shown}"))
    return found


def find_mistakes(error: ValidationError, tree: Any, schema: Any, prefix: Path = ()) -> list[Mistake]:
    """Return what pydantic found, in our words; several complaints about one place are one.

    Args:
        error: From validating ``tree``.
        tree: What was validated.
        schema: The type that it was validated against.
        prefix: Where the tree stands in the whole.
    """
    by_place: dict[Path, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False, include_input=False):
        by_place.setdefault(_place(detail, tree), []).append(detail)
    found: list[Mistake] = []
    for path, details in by_place.items():
        # A table in place of a word: what is wrong inside of it says more than that it is no word.
        if any(other[: len(path)] == path and len(other) > len(path) for other in by_place):
            continue
        found.append(Mistake((*prefix, *path), _tell(details, path, tree, schema, prefix)))
    return found


def _place(detail: ErrorDetails, tree: Any) -> Path:
    """Return where in the tree it is; pydantic's own path also names the members of unions."""
    path: Path = ()
    here = tree
    for part in detail["loc"]:
        inside = isinstance(here, Mapping) and part in here
        if inside or (isinstance(here, list) and isinstance(part, int)):
            here = cast("Any", here)[part]
            path = (*path, part)
    return (*path, detail["loc"][-1]) if detail["type"] == "missing" else path


def _tell(details: Sequence[ErrorDetails], path: Path, tree: Any, schema: Any, prefix: Path) -> str:
    kinds = {detail["type"] for detail in details}
    if "extra_forbidden" in kinds:
        return _unknown_key(path, schema, prefix)
    if kinds == {"missing"}:
        return "it is missing: add it"
    words: list[str] = []
    for detail in details:
        said = _expected(detail, schema, path)
        if said not in words:
            words.append(said)
    value = _value(tree, path)
    choices = shape.choices(shape.at(schema, path))
    near = nearest(value, choices) if isinstance(value, str) else None
    hint = f". Did you mean {near!r}?" if near else ""
    bounded = not kinds.isdisjoint(_BOUNDS)
    return f"expected {' or '.join(words)}, found {_kind_of(value, shown=bounded, other=bool(choices))}{hint}"


def _unknown_key(path: Path, schema: Any, prefix: Path) -> str:
    word = str(path[-1])
    if prefix + path[:-1] == ("agent",) and word in NO_DATA:
        return "it is no data: give it in a program, as options=ClaudeAgentOptions(...)"
    known = shape.keys(shape.at(schema, path[:-1]))
    near = nearest(word, known)
    if near is not None:
        return f"there is no such key. Did you mean {near!r}?"
    if not known:
        return "there is no such key, and no other is known there: remove it"
    if len(known) > _FEW:
        return "there is no such key: remove it"
    return f"there is no such key. Known are: {', '.join(sorted(known))}"


def _expected(detail: ErrorDetails, schema: Any, path: Path) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "model_type":
        return _shown(shape.models(shape.at(schema, path)), str(context.get("class_name")))
    if kind in _BOUNDS:
        return f"a number {_BOUNDS[kind]} {next(iter(context.values())):g}"
    if kind == "string_pattern_mismatch":
        return "the name of an environment variable"
    known = _EXPECTED.get(kind.partition("_")[0])
    # What a provider's own model says of its own options.
    return (
        known if known is not None and kind.endswith(("_type", "_parsing", "_from_float")) else _own(detail)
    )


def _own(detail: ErrorDetails) -> str:
    said = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return "something else" if looks_secret(said) else said[:1].lower() + said[1:]


def _shown(candidates: Sequence[type[BaseModel]], name: str) -> str:
    for one in candidates:
        if one.__name__ == name:
            return str(getattr(one, "shown", "a table"))
    return "a table"


def _value(tree: Any, path: Path) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def _kind_of(value: object, *, shown: bool, other: bool) -> str:
    """Return what a value is; a number that is out of bounds is ``shown`` itself."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "other text" if other else "text"
    if isinstance(value, int | float) and shown:
        return f"{value:g}"
    kinds: dict[type, str] = {int: "a whole number", float: "a number", list: "a list", dict: "a table"}
    return kinds.get(type(value), type(value).__name__)
