"""``agenthost doctor``: what works here, and how to get the rest."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Annotated

import typer
from rich.text import Text

from agenthost.cli import checks
from agenthost.cli.checks import Check, State
from agenthost.cli.configured_providers import AllowOption, ConfigOption, Where, find_names, where_said
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.transcript import Screen, printable
from agenthost.errors import AgentHostError

Look = Callable[[], Check | list[Check] | Awaitable[Check]]
_MARKS = {"ok": ("ok", "green"), "missing": ("MISSING", "bold red"), "optional": ("-", "yellow")}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigOption = None,
    allow: AllowOption = None,
) -> None:
    """Say what works on this machine, and how to get the rest.

    Providers are tried with their options from the config. Exits with 1 when agents cannot run here.
    """
    show = None if as_json else partial(_show, Screen())
    found = run_until_stopped(partial(look, where_said(config, allow), show))
    works = all(check.state != "missing" for check in found)
    if as_json:
        print(
            json.dumps(
                {"agenthost": version("agenthost"), "works": works, "checks": list(map(asdict, found))}
            )
        )
    else:
        _conclude(works)
    if not works:
        raise typer.Exit(1)


async def look(where: Where | None = None, show: Callable[[Check], None] | None = None) -> list[Check]:
    """Return what every check found; one that fails is a finding, too.

    Args:
        where: Where providers have their options.
        show: Gets each finding as soon as there is one: some checks take seconds.

    Raises:
        ConfigError: The config makes no sense.
    """
    names = find_names(where or Where())
    looks: dict[str, Look] = {
        "Python": checks.check_python,
        "Claude Agent SDK": checks.check_sdk,
        "claude CLI": checks.check_cli,
        "bash": checks.check_bash,
        "local isolation": partial(checks.check_isolation, names),
        "state directory": checks.check_state,
        "Anthropic key": partial(checks.check_key, names.sources),
        "docker": partial(checks.check_docker, names),
        "clouds": checks.check_clouds,
    }
    found: list[Check] = []
    for name, check in looks.items():
        results = await _try(name, check)
        found += results
        if show is not None:
            for one in results:
                show(one)
    return found


async def _try(name: str, check: Look) -> list[Check]:
    try:
        seen = check()
        result = await seen if inspect.isawaitable(seen) else seen
    except AgentHostError as error:
        return [Check(name=name, state=_needed(name), detail="cannot be tried", remedy=str(error))]
    except Exception as error:  # noqa: BLE001 - what cannot be looked at is a finding, and hides no other
        detail = f"cannot be looked at: {type(error).__name__}: {error}"
        return [Check(name=name, state=_needed(name), detail=detail)]
    return result if isinstance(result, list) else [result]


def _needed(name: str) -> State:
    return "optional" if name in ("docker", "clouds") else "missing"


def _show(console: Screen, check: Check) -> None:
    mark, style = _MARKS[check.state]
    line = Text(mark.ljust(9), style=style).append(check.name.ljust(18), style="bold")
    # Soft wrap: a log keeps its long lines, a terminal wraps them itself.
    console.print(line.append(printable(check.detail), style="not bold"), soft_wrap=True)
    for remedy in check.remedy.splitlines():
        console.print(Text(" " * 27 + f"-> {printable(remedy)}"), soft_wrap=True)


def _conclude(works: bool) -> None:
    console = Screen()
    console.print()
    if works:
        console.print("Agents run on this machine. Try: agenthost demo")
    else:
        console.print("Agents cannot run on this machine yet: see what is MISSING above.")
