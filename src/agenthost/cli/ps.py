"""``agenthost ps``: which agents there are, and what they do."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Annotated

import anyio
import typer

from agenthost.cli.configured_providers import AllowOption, ConfigOption, Where, where_said
from agenthost.cli.finding import PATIENCE, Seen, open_finder, tell_none
from agenthost.cli.looking import look_at
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.tables import print_table
from agenthost.cli.transcript import printable
from agenthost.errors import AgentHostError
from agenthost.link.agents import AgentStatus

_HEADS = ("AGENT", "SANDBOX", "PROVIDER", "STATE", "DRIVEN", "SESSION", "AGE", "ENDS IN")
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_SHORT = 8  # characters of a session's id


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One agent, or a sandbox of which none is known. Times are seconds since the epoch."""

    agent: str | None
    sandbox: str
    provider: str
    state: str
    exit_code: int | None = None
    error: str | None = None
    driven: bool | None = None
    session_id: str | None = None
    created_at: float | None = None
    ends_at: float | None = None


def ps(
    provider: Annotated[
        str | None,
        typer.Option(help="Only this provider's sandboxes; every one that works here if not given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    config: ConfigOption = None,
    allow: AllowOption = None,
) -> None:
    """List agents: what they do, who drives them, when they end.

    It only looks. A sandbox that cannot be asked is listed with the reason.
    Exits with 1 when a provider cannot be asked for its sandboxes. One that is not set up is only named.
    """
    rows, problems, notices = run_until_stopped(
        partial(_rows, where_said(config, allow, provider)), ending=""
    )
    for line in (*problems, *notices):
        print(f"agenthost: {printable(line)}", file=sys.stderr)
    if as_json:
        for row in rows:
            print(json.dumps(asdict(row)))
    elif rows:
        _show(rows)
    if problems:
        raise typer.Exit(1)
    if not rows:
        print(tell_none(), file=sys.stderr if as_json else sys.stdout)


async def _rows(where: Where) -> tuple[list[Row], list[str], list[str]]:
    """Return what there is, why that is not all, and which providers are not set up."""
    async with open_finder(where) as finder:
        seen = await finder.sandboxes()
        found: dict[tuple[int, int], Row] = {}
        async with anyio.create_task_group() as tasks:

            async def look(place: tuple[int, int], one: Seen, status: AgentStatus) -> None:
                found[place] = await _row(one, status)

            for number, one in enumerate(seen):
                if not one.agents:
                    found[number, 0] = _without_agent(one)
                for place, status in enumerate(one.agents):
                    tasks.start_soon(look, (number, place), one, status)
        return [found[place] for place in sorted(found)], finder.problems(), finder.notices()


async def _row(seen: Seen, status: AgentStatus) -> Row:
    assert seen.sandbox is not None
    row = Row(
        agent=status.agent,
        sandbox=seen.info.name,
        provider=seen.info.provider,
        state=f"unknown: no answer within {PATIENCE:g} s",
        exit_code=status.exit_code,
        driven=status.driven,
        created_at=seen.info.created_at,
        ends_at=seen.expires_at,
    )
    with anyio.move_on_after(PATIENCE):
        try:
            view = await look_at(seen.sandbox, status)
        except AgentHostError as error:
            return replace(row, state=f"unknown: {error}")
        return replace(row, state=view.state, error=view.error, session_id=view.session_id)
    return row


def _without_agent(seen: Seen) -> Row:
    return Row(
        agent=None,
        sandbox=seen.info.name,
        provider=seen.info.provider,
        state=f"cannot be asked: {seen.problem}" if seen.problem else "no agent",
        created_at=seen.info.created_at,
        ends_at=seen.expires_at,
    )


def _show(rows: Sequence[Row]) -> None:
    now = time.time()
    print_table(_HEADS, [_cells(row, now) for row in rows])


def _cells(row: Row, now: float) -> tuple[str, ...]:
    driven = {True: "yes", False: "no", None: "-"}[row.driven]
    return (
        row.agent or "-",
        row.sandbox,
        row.provider,
        _state(row),
        driven,
        (row.session_id or "-")[:_SHORT],
        "-" if row.created_at is None else tell_time(now - row.created_at),
        "-" if row.ends_at is None else tell_time(row.ends_at - now),
    )


def _state(row: Row) -> str:
    if row.state != "ended":
        return row.state
    code = "" if row.exit_code is None else f" with exit code {row.exit_code}"
    return f"ended{code}" + (f": {row.error}" if row.error else "")


def tell_time(seconds: float) -> str:
    """Return a span of time in its largest unit that has at least two of it."""
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
