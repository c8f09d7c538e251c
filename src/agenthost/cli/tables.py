"""Tables for people: columns as wide as what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agenthost.cli.transcript import printable


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows below their heads. Some of it was said in a sandbox: one line stays one."""
    lines = [tuple(heads), *(tuple(printable(cell).replace("\n", " ") for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
