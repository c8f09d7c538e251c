"""Every command line that a page shows is one that the command takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from agenthost.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# In a block, perhaps behind a prompt, or as code in a sentence.
BLOCKS = re.compile(r"^```(?:sh|console)\n(.*?)^```|((?:^ {4}.*\n)+)", re.MULTILINE | re.DOTALL)
LINES = re.compile(r"^ *(?:\$ )?agenthost +(.*)$", re.MULTILINE)
INLINE = re.compile(r"`agenthost +([^`\n]+)`")


def texts(page: str) -> Iterator[str]:
    """Yield what stands behind ``agenthost`` wherever it is a command."""
    for block in BLOCKS.finditer(page):
        yield from LINES.findall(block[1] or block[2])
    yield from INLINE.findall(page)


def command_lines() -> Iterator[Any]:
    """Yield the arguments of each command line, with the page's name."""
    for page in PAGES:
        lines = [
            shlex.split(re.split(r" [<>|] ", text)[0], comments=True) for text in texts(page.read_text())
        ]
        for words in map(list, dict.fromkeys(map(tuple, lines))):
            # With a placeholder it is a form, and no command line.
            if words and not any(re.search(r"[<>\[\]{}]|\.\.\.|^[A-Z]+$", word) for word in words):
                yield pytest.param(words, id=f"{page.relative_to(ROOT)}: {' '.join(words)}")


@pytest.mark.parametrize("words", list(command_lines()))
def test_it_is_taken(words: list[str]) -> None:
    group: Any = typer.main.get_command(app)
    context = group.make_context("agenthost", list(words), resilient_parsing=True)
    if words[0].startswith("-"):
        return
    while True:
        name, command, rest = group.resolve_command(context, words)
        assert command is not None, f"there is no command {name!r}"
        if not hasattr(command, "resolve_command") or not rest:
            break
        group, words = command, rest
    parser = command.make_parser(context)
    _, left, _ = parser.parse_args(list(rest))  # raises for an option that is not there
    takes = [one for one in command.params if one.param_type_name == "argument"]
    assert not left or takes, f"{name} takes no {left}"
