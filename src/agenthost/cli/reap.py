"""``agenthost reap``: end what nobody owns any more."""

from __future__ import annotations

import json
import sys
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated

import typer

from agenthost.cli.finding import is_nowhere
from agenthost.cli.ps import tell_time
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.tables import print_table
from agenthost.cli.transcript import printable
from agenthost.reaping import Reaped
from agenthost.reaping import reap as reap_provider
from agenthost.registry import open_provider, provider_names


def reap(
    provider: Annotated[
        list[str] | None, typer.Option(help="A provider, several times for more; all that work if not given.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell.")] = False,
    unknown: Annotated[
        bool,
        typer.Option("--unknown", help="Also what was made by owners that this machine does not know."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """End sandboxes that have outlived their end or lost their owner; tell what is kept and why.

    A living owner's sandbox is never touched, nor one whose agent has a driver. Exits with 1 when one could
    not be ended.
    """
    found, problems = run_until_stopped(
        partial(_reap, provider, dry_run=dry_run, unknown=unknown), ending="what has begun to end ends"
    )
    if as_json:
        for one in found:
            print(json.dumps(_to_json(one, dry_run)))
    elif found:
        print_table(("PROVIDER", "SANDBOX", "AGE", "OUTCOME", "WHY"), [_cells(one, dry_run) for one in found])
    else:
        print("there is no sandbox")
    for problem in problems:
        print(f"agenthost: {printable(problem)}", file=sys.stderr)
    if any(one.outcome == "failed" for one in found):
        raise typer.Exit(1)


async def _reap(names: list[str] | None, *, dry_run: bool, unknown: bool) -> tuple[list[Reaped], list[str]]:
    found: list[Reaped] = []
    problems: list[str] = []
    for name in names or provider_names():
        async with AsyncExitStack() as stack:
            try:
                opened = await stack.enter_async_context(open_provider(name))
                if not names and is_nowhere(opened):
                    continue
                found += await reap_provider(opened, dry_run=dry_run, unknown=unknown)
            except Exception as error:
                if names:
                    raise
                problems.append(f"{name} was left out: {str(error) or type(error).__name__}")
    return found, problems


def _outcome(one: Reaped, dry_run: bool) -> str:
    return "would be reaped" if dry_run and one.outcome == "reaped" else one.outcome


def _to_json(one: Reaped, dry_run: bool) -> dict[str, object]:
    info = one.info
    return {
        "provider": info.provider,
        "sandbox": info.id,
        "name": info.name,
        "outcome": _outcome(one, dry_run),
        "reason": one.reason,
        "created_at": info.created_at,
        "expires_at": info.expires_at,
    }


def _cells(one: Reaped, dry_run: bool) -> tuple[str, ...]:
    made = one.info.created_at
    age = "-" if made is None else tell_time(time.time() - made)
    return (one.info.provider, one.info.name, age, _outcome(one, dry_run), one.reason)
