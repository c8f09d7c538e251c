"""``agenthost doctor``: what works here, and how to get the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Annotated

import typer
from rich.text import Text

from agenthost.cli import checks
from agenthost.cli.checks import Check
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.transcript import Screen

_MARKS = {"ok": ("ok", "green"), "missing": ("MISSING", "bold red"), "optional": ("-", "yellow")}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what works on this machine, and how to get the rest.

    Exits with 1 when agents cannot run here.
    """
    found = run_until_stopped(_look)
    works = all(check.state != "missing" for check in found)
    if as_json:
        print(
            json.dumps(
                {"agenthost": version("agenthost"), "works": works, "checks": list(map(asdict, found))}
            )
        )
    else:
        _show(found, works)
    if not works:
        raise typer.Exit(1)


async def _look() -> list[Check]:
    return [
        checks.check_python(),
        checks.check_sdk(),
        checks.check_cli(),
        checks.check_bash(),
        await checks.check_isolation(),
        checks.check_state(),
        checks.check_key(),
        await checks.check_docker(),
    ]


def _show(found: Sequence[Check], works: bool) -> None:
    console = Screen()
    for check in found:
        mark, style = _MARKS[check.state]
        line = Text(mark.ljust(9), style=style).append(check.name.ljust(18), style="bold")
        # Soft wrap: a log keeps its long lines, a terminal wraps them itself.
        console.print(line.append(check.detail, style="not bold"), soft_wrap=True)
        for remedy in check.remedy.splitlines():
            console.print(Text(" " * 27 + f"-> {remedy}"), soft_wrap=True)
    console.print()
    if works:
        console.print("Agents run on this machine. Try: agenthost demo")
    else:
        console.print("Agents cannot run on this machine yet: see what is MISSING above.")
