"""What a test proved that is gone, another test proves."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = tomllib.loads(Path(__file__).with_name("successors.toml").read_text())


def exists(test: str) -> bool:
    """Return whether a test, as ``file::name`` or ``file::class::name``, is in its file."""
    file, *names = test.split("::")
    path = ROOT / file
    if not path.is_file():
        return False
    body: list[ast.stmt] = ast.parse(path.read_text()).body
    for name in names:
        found = [one for one in body if getattr(one, "name", None) == name]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True


def test_the_successor_of_each_test_that_is_gone_is_there() -> None:
    assert {gone: successor for gone, successor in LIST.items() if not exists(successor)} == {}


def test_a_test_that_has_a_successor_is_gone() -> None:
    assert [gone for gone in LIST if exists(gone)] == []
