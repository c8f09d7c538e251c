"""``agenthost reap``: end what nobody owns any more."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import Annotated

import typer

from agenthost.cli.configured_providers import (
    AllowOption,
    ConfigOption,
    Opened,
    Where,
    open_providers,
    where_said,
)
from agenthost.cli.ps import tell_time
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.tables import print_table
from agenthost.cli.transcript import printable
from agenthost.reaping import Reaped
from agenthost.reaping import reap as reap_provider


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
    config: ConfigOption = None,
    allow: AllowOption = None,
) -> None:
    """End sandboxes that have outlived their end or lost their owner; tell what is kept and why.

    A living owner's sandbox is never touched, nor one whose agent has a driver. Exits with 1 when one could
    not be ended, or a provider that is set up did not answer. One that is not set up is only named.
    """
    where = where_said(config, allow, *(provider or ()))
    found, opened = run_until_stopped(
        partial(_reap, where, dry_run=dry_run, unknown=unknown), ending="what has begun to end ends"
    )
    if as_json:
        for one in found:
            print(json.dumps(_to_json(one, dry_run)))
    elif found:
        print_table(("PROVIDER", "SANDBOX", "AGE", "OUTCOME", "WHY"), [_cells(one, dry_run) for one in found])
    elif not opened.problems:
        print("there is no sandbox", file=sys.stderr if as_json else sys.stdout)
    problems = [f"provider {name} cannot be asked: {why}" for name, why in opened.problems.items()]
    for line in (*problems, *opened.notices()):
        print(f"agenthost: {printable(line)}", file=sys.stderr)
    if opened.problems or any(one.outcome == "failed" for one in found):
        raise typer.Exit(1)


async def _reap(where: Where, *, dry_run: bool, unknown: bool) -> tuple[list[Reaped], Opened]:
    found: list[Reaped] = []
    async with open_providers(where) as opened:
        for name, provider in opened.providers.items():
            try:
                found += await reap_provider(provider, dry_run=dry_run, unknown=unknown)
            except Exception as error:
                if where.named:
                    raise
                opened.problems[name] = str(error) or type(error).__name__
    return found, opened


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
