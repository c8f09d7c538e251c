"""Measure agenthost beside its baselines and print a table."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
from collections.abc import Sequence

import agent_rows
import carrier_rows
import distance_rows
import link_rows
import many_rows
import sandbox_rows
from measure import Row
from rich.console import Console
from rich.table import Table

_GROUPS = ("sandbox", "agent", "link", "carriers", "distance", "many")


async def _measure(groups: Sequence[str], rounds: int, site: str | None, console: Console) -> list[Row]:
    found: list[Row] = []
    for group in groups:
        if group == "sandbox":
            rows = sandbox_rows.rows(rounds)
        elif group == "agent":
            rows = agent_rows.rows(rounds, site)
        elif group == "link":
            rows = link_rows.rows(rounds)
        elif group == "carriers":
            rows = carrier_rows.rows(rounds)
        elif group == "distance":
            rows = distance_rows.rows(rounds)
        else:
            rows = many_rows.rows()
        async for row in rows:
            found.append(row)
            console.print(f"[dim]{row.group}: {row.name}: {row.ours:.3g} {row.unit}[/dim]")
    return found


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of: {', '.join(_GROUPS)}")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each measurement (default 7)")
    parser.add_argument(
        "--baked",
        metavar="DIR",
        help="add a row for this: pip install --target DIR claude-agent-sdk 'mcp<2' (and compileall)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    arguments = parser.parse_args()
    groups: list[str] = arguments.groups or list(_GROUPS)
    unknown = [group for group in groups if group not in _GROUPS]
    if unknown:
        parser.error(f"unknown group {unknown[0]!r}; there are {', '.join(_GROUPS)}")
    progress = Console(stderr=True)
    rows = asyncio.run(_measure(groups, arguments.rounds, arguments.baked, progress))
    if arguments.json:
        for row in rows:
            print(json.dumps({**dataclasses.asdict(row), "ratio": row.ratio, "met": row.met}))
        return
    table = Table("what", "ours", "baseline", "ratio", "goal", "", title="agenthost beside its baselines")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.ours:.3g} {row.unit}",
            "" if row.baseline is None else f"{row.baseline:.3g} {row.unit} ({row.baseline_name})",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.goal_text,
            "ok" if row.met else "missed",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
