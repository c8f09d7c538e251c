"""The part of a config that is right, so that what is wrong with its values is found beside wrong types."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, cast

from pydantic import ValidationError

from agenthost.config.mistakes import find_mistakes
from agenthost.config.secrets import looks_secret
from agenthost.config.shape import Path
from agenthost.config.tables import Tables


def right_part(tree: dict[str, Any], wrong: Iterable[Path]) -> Tables:
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
