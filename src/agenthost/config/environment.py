"""Settings from ``AGENTHOST_*`` variables: ``AGENTHOST_SPEC__LIMITS__MEMORY_MIB=512``.

``__`` goes one table down. What is no word or number in the file is JSON here. A variable that is meant for
a secret is one itself: it is read where the secret is needed and kept nowhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from agenthost.config import shape
from agenthost.config.mistakes import Mistake, nearest
from agenthost.config.secrets import holds_secret, looks_secret
from agenthost.config.shape import Path
from agenthost.config.tables import Tables

PREFIX = "AGENTHOST_"
CONFIG = "AGENTHOST_CONFIG"

# What other parts of agenthost read, or set for the programs that they start.
_OTHERS = {CONFIG, "AGENTHOST_STATE_DIR", "AGENTHOST_SECRET", "AGENTHOST_PROCESS", "AGENTHOST_CONFORMANCE"}
# Of the tests, and what Kubernetes gives every container beside a service called agenthost.
_FOREIGN = re.compile(r"AGENTHOST_(TEST_\w+|SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_\w+)?)\Z")


class _Settings(Tables, BaseSettings):
    """Tells pydantic-settings which variables there are."""

    model_config = SettingsConfigDict(
        extra="forbid", case_sensitive=True, env_prefix=PREFIX, env_nested_delimiter="__"
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """What one variable says.

    Attributes:
        path: Where it would stand in the file.
        tree: The whole way down to it.
    """

    variable: str
    path: Path
    tree: dict[str, Any]


def read_environment(environ: Mapping[str, str]) -> tuple[list[Setting], list[Mistake]]:
    """Return what is set, and what is wrong with it; the path of a mistake is the variable's name.

    A variable that is empty counts as not set.
    """
    settings: list[Setting] = []
    mistakes: list[Mistake] = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in _OTHERS or not environ[variable]:
            continue
        if _FOREIGN.match(variable):
            continue
        path = _path_of(variable)
        if isinstance(path, str):
            mistakes.append(Mistake((variable,), path))
            continue
        try:
            settings.append(Setting(variable, path, _tree_of(variable, path, environ[variable])))
        except SettingsError:
            annotation = shape.at(Tables, path)
            words = "a list" if shape.is_list(annotation) else "a table"
            mistakes.append(Mistake((variable,), f"expected {words} as JSON, found text"))
    return settings, mistakes


def variable_of(path: Path) -> str:
    """Return the variable that sets what stands at a path."""
    words = [str(part) if path[:2] == ("agent", "env") else str(part).upper() for part in path]
    return PREFIX + "__".join(word.replace("-", "_") for word in words)


def _tree_of(variable: str, path: Path, text: str) -> dict[str, Any]:
    is_table = text.lstrip().startswith("{")
    if holds_secret(path) and not is_table and path[:2] != ("spec", "env"):
        return _nest(path, {"env": variable})
    if len(path) > 1 and shape.takes_any_key(shape.at(Tables, path[:-1])):
        return _nest(path, as_json(text) if is_table else text)
    # The names of keys as they are in the file: a map's may have small and large letters.
    name = PREFIX + "__".join(map(str, path))
    source = EnvSettingsSource(_Settings)
    source.env_vars = {name: text}
    return source()


def _nest(path: Path, value: Any) -> dict[str, Any]:
    tree = {path[-1]: value}
    for part in reversed(path[:-1]):
        tree = {part: tree}
    return {str(key): below for key, below in tree.items()}


def _path_of(variable: str) -> Path | str:
    """Return the path of what a variable sets, or what is wrong with its name."""
    words = variable.removeprefix(PREFIX).split("__")
    annotation: Any = Tables
    path: list[str] = []
    while words:
        word = words.pop(0)
        known = {name.lower(): name for name in shape.keys(annotation)}
        if word.lower() in known:
            key = known[word.lower()]
        elif shape.takes_any_key(annotation):
            key, words = _free_key(tuple(path), word, words)
        else:
            near = nearest(word, known.values())
            hint = (
                ": unset it"
                if near is None or looks_secret(word)
                else f". Did you mean {variable_of((*path, near))}?"
            )
            return f"there is no such setting{hint}"
        path.append(key)
        annotation = shape.below(annotation, key)
    return tuple(path)


def _free_key(path: Path, word: str, rest: list[str]) -> tuple[str, list[str]]:
    """Return a key of a table that takes any: what looks like part of it may be a name with ``__`` in it."""
    if path == ("providers",):
        return word.lower().replace("_", "-"), rest
    if path[:1] == ("providers",):
        return word.lower(), rest
    if path in (("agent", "env"), ("spec", "env"), ("spec", "labels")):
        return "__".join((word, *rest)), []
    if path[-1:] in (("env",), ("headers",)):
        return "__".join((word, *rest)), []
    return word.lower(), rest


def as_json(text: str) -> Any:
    """Return what a text is as JSON; the text itself where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text
