"""The file and the environment, read and checked, and which of them a value is from."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, cast

from pydantic import ValidationError

from agenthost.config import shape
from agenthost.config.environment import CONFIG, Setting, read_environment
from agenthost.config.mistakes import Mistake, find_mistakes, find_secrets, tell_path
from agenthost.config.secrets import looks_secret
from agenthost.config.shape import Path
from agenthost.config.table import Reference
from agenthost.config.tables import Tables
from agenthost.errors import ConfigError


@dataclass(slots=True)
class Sources:
    """What was read.

    Attributes:
        file: The file, as it was named; None when there is only the environment.
        settings: What variables of the environment say.
        tree: Both in one; the environment wins.
        mistakes: What is wrong with keys and types, one line each, with its place, sorted.
        tables: The tree, checked, without what is wrong.
    """

    file: FilePath | None
    settings: list[Setting]
    tree: dict[str, Any]
    mistakes: list[str] = field(default_factory=list[str])
    tables: Tables = field(default_factory=Tables)

    def require(self) -> None:
        """Raise ConfigError with all that is wrong."""
        if self.mistakes:
            raise ConfigError("\n".join(self.mistakes))

    def variable(self, path: Path) -> str | None:
        """Return the variable that a value is from; None when it is from the file."""
        # The longest path that leads there, or the shortest one behind it.
        above = [one for one in self.settings if path[: len(one.path)] == one.path]
        found = max(above, key=lambda one: len(one.path), default=None)
        return None if found is None or not leads(found.tree, path) else found.variable

    def tell(self, path: Path, text: str) -> str:
        """Return one line about a value: where it is from, which it is, and what is to be said."""
        inside = [self.variable(one) for one, _ in _whole(self.tree) if one[: len(path)] == path]
        # A table that variables alone have filled is from the first of them.
        variable = self.variable(path) if not inside or None in inside else inside[0]
        if variable is None:
            return f"{self.file}: {tell_path(path)}: {text}"
        return f"environment variable {variable}: {text}"

    def values(self) -> list[tuple[Path, Any, str]]:
        """Return each value that is set, with where it is from. Secrets are references in it."""
        found: list[tuple[Path, Any, str]] = []
        for path, value in _whole(self.tree):
            variable = self.variable(path)
            found.append((path, value, str(self.file) if variable is None else variable))
        return found


def read_sources(
    path: str | os.PathLike[str] | None, environ: Mapping[str, str], *, required: bool = True
) -> Sources:
    """Read a file, else the one that AGENTHOST_CONFIG names, and what AGENTHOST_* variables say.

    Raises:
        ConfigError: The file cannot be read; there is nothing to read, and it is ``required``.
    """
    named = f" (from {CONFIG})" if path is None and environ.get(CONFIG) else ""
    given = path if path is not None else environ.get(CONFIG) or None
    file = None if given is None else FilePath(given)
    file_tree = {} if file is None else _read(file, named)
    settings, wrong = read_environment(environ)
    if required and file is None and not settings and not wrong:
        raise ConfigError(
            f"there is no config to read: name a file, or set {CONFIG} to one, or set what it would hold, "
            "as AGENTHOST_PROVIDER; ./agenthost.toml is read by the agenthost command alone"
        )
    sources = Sources(file, settings, _merged(file_tree, settings))
    in_file = _check_file(file_tree)
    in_settings = [(setting, one) for setting in settings for one in _check_setting(setting)]
    lines = {f"{file}: {tell_path(one.path)}: {one.text}" for one in in_file}
    lines |= {f"environment variable {one.path[0]}: {one.text}" for one in wrong}
    lines |= {_tell_setting(setting, one) for setting, one in in_settings}
    sources.mistakes += sorted(lines)
    places = [one.path for one in in_file if sources.variable(one.path) is None]
    sources.tables = _right_part(sources.tree, [*places, *(one.path for _, one in in_settings)])
    return sources


def _read(file: FilePath, named: str) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            return tomllib.load(opened)
    except OSError as error:
        raise ConfigError(f"the config {file}{named} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the config {file}{named} is not UTF-8: {error.reason}") from error
    except tomllib.TOMLDecodeError as error:
        said = "it is no TOML" if looks_secret(str(error)) else str(error)
        raise ConfigError(f"the config {file}{named} is no TOML: {said}") from None


def _check_file(tree: dict[str, Any]) -> list[Mistake]:
    """Text for a number is wrong in the file: TOML has numbers."""
    secret = find_secrets(tree)
    try:
        # JSON's strict mode is what fits: it has lists and tables, and no tuples or classes.
        Tables.model_validate_json(json.dumps(tree, default=str), strict=True)
    except ValidationError as error:
        return _first_of_each(secret, find_mistakes(error, tree, Tables))
    return secret


def _check_setting(setting: Setting) -> list[Mistake]:
    """A variable is always text, so what it means is taken."""
    secret = find_secrets(setting.tree)
    try:
        Tables.model_validate(setting.tree)
    except ValidationError as error:
        return _first_of_each(secret, find_mistakes(error, setting.tree, Tables))
    return secret


def _first_of_each(first: list[Mistake], then: list[Mistake]) -> list[Mistake]:
    places = {one.path for one in first}
    return first + [one for one in then if one.path not in places]


def _tell_setting(setting: Setting, mistake: Mistake) -> str:
    text = mistake.text
    for kind in ("a list", "a table"):
        text = text.replace(f"expected {kind}, found text", f"expected {kind} as JSON, found text")
    inner = f"{tell_path(mistake.path)}: " if len(mistake.path) > len(setting.path) else ""
    return f"environment variable {setting.variable}: {inner}{text}"


def _merged(tree: dict[str, Any], settings: list[Setting]) -> dict[str, Any]:
    result = deepcopy(tree)
    # One that says more exactly what it means comes last.
    for setting in sorted(settings, key=lambda one: len(one.path)):
        _merge(result, setting.tree)
    return result


def _merge(into: dict[str, Any], tree: dict[str, Any]) -> None:
    for key, value in tree.items():
        there: Any = into.get(key)
        # A reference is one value, however it looks.
        if _is_table(value) and _is_table(there):
            _merge(there, value)
        else:
            into[key] = deepcopy(value)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and not is_reference(cast("Any", value))


def is_reference(value: Any) -> bool:
    """Tell whether this is the name of an environment variable, in place of a value."""
    table = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    return set(table) == {"env"} and isinstance(table["env"], str)


def references(tree: Any, annotation: Any = Tables, path: Path = ()) -> Iterator[tuple[Path, Reference]]:
    """Yield each secret of the tables whose keys are known, with its path: not those of providers."""
    if is_reference(tree) and Reference in shape.members(annotation):
        name: str = tree["env"]
        if re.match(Reference.pattern, name) and not looks_secret(name):
            yield path, Reference(env=name)
    elif isinstance(tree, dict):
        for key, value in cast("dict[str, Any]", tree).items():
            yield from references(value, shape.below(annotation, key), (*path, key))
    elif isinstance(tree, list):
        for number, value in enumerate(cast("Any", tree)):
            yield from references(value, shape.below(annotation, number), (*path, number))


def leads(tree: Any, path: Path) -> bool:
    """Tell whether there is something at a path; what stands in a list is not looked for."""
    for part in path:
        if isinstance(tree, Mapping):
            if part not in tree:
                return False
            tree = cast("Any", tree)[part]
    return True


def _whole(tree: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    """Return each value with its path: a list is one, and so is a reference."""
    if not isinstance(tree, dict) or is_reference(tree) or (not tree and path):
        return [(path, tree)]
    found: list[tuple[Path, Any]] = []
    for key, value in cast("dict[str, Any]", tree).items():
        found += _whole(value, (*path, key))
    return found


def _right_part(tree: dict[str, Any], wrong: Iterable[Path]) -> Tables:
    """Return the tables without what is wrong; a list of which one part is wrong is left out whole.

    Args:
        tree: The whole config.
        wrong: Where mistakes were found already. What else does not fit is left out, too.
    """
    rest = deepcopy(tree)
    for path in wrong:
        _remove(rest, path)
    while True:
        try:
            return Tables.model_validate(rest)
        except ValidationError as error:
            removed = [_remove(rest, one.path) for one in find_mistakes(error, rest, Tables)]
            if not any(removed):
                return Tables()


def _remove(tree: dict[str, Any], path: Path) -> bool:
    """Remove what stands at a path, or the nearest table above it; return whether there was something."""
    keys: list[str] = []
    here: Any = tree
    for part in path:
        if not isinstance(here, dict) or part not in here:
            break
        keys.append(str(part))
        if looks_secret(str(part)):
            break
        here = cast("Any", here)[part]
    if not keys:
        return False
    for key in keys[:-1]:
        tree = tree[key]
    del tree[keys[-1]]
    return True
