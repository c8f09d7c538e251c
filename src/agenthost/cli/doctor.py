"""``agenthost doctor``: what works here, and how to get the rest."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Annotated

import typer
from rich.text import Text

from agenthost.cli import checks, provider_checks
from agenthost.cli.checks import Check, State
from agenthost.cli.configured_providers import AllowOption, ConfigOption, Where, find_names, where_said
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.transcript import Screen, printable
from agenthost.errors import AgentHostError
from agenthost.registry import provider_names

Look = Callable[[], Check | list[Check] | Awaitable[Check]]
_MARKS = {"ok": ("ok", "green"), "missing": ("MISSING", "bold red"), "optional": ("-", "yellow")}


def doctor(
    provider: Annotated[
        str | None,
        typer.Option(help="Look at this provider alone: credentials, API, image, and what a run costs."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigOption = None,
    allow: AllowOption = None,
) -> None:
    """Report what works on this machine, and how to get the rest.

    Providers are tried with their options from the config; the vendor of a cloud is asked only with
    --provider. Nothing is made. Exits with 1 when agents cannot run here, or not with this provider.
    """
    show = None if as_json else partial(show_check, Screen())
    where = where_said(config, allow, provider)
    if provider is None:
        found = run_until_stopped(partial(look, where, show))
        able = able_providers(found)
    else:
        found = run_until_stopped(partial(look_at_one, where, provider, show))
        able = [] if any(check.state == "missing" for check in found) else [provider]
    if as_json:
        report = {"agenthost": version("agenthost"), "works": bool(able), "providers": able}
        print(json.dumps({**report, "checks": list(map(asdict, found))}))
    else:
        _conclude(able, provider)
    if not able:
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
        "docker": partial(provider_checks.check_docker, names),
        "providers": partial(provider_checks.check_providers, names),
    }
    found: list[Check] = []
    for name, check in looks.items():
        results = await _try(name, check)
        found += results
        if show is not None:
            for one in results:
                show(one)
    return found


async def look_at_one(where: Where, name: str, show: Callable[[Check], None] | None = None) -> list[Check]:
    """Return what there is to know before the first sandbox of one provider. See ``look``."""
    names = find_names(where)
    found = [checks.check_sdk(), checks.check_state()]
    if show is not None:
        for one in found:
            show(one)
    async with aclosing(provider_checks.check_one(names, name)) as rows:
        async for one in rows:
            found.append(one)
            if show is not None:
                show(one)
    key = checks.check_key(names.sources)
    if show is not None:
        show(key)
    return [*found, key]


def able_providers(found: Sequence[Check]) -> list[str]:
    """Return the providers that can run agents, as far as is known; none where this host lacks something."""
    states = {check.name: check.state for check in found}
    if any(states.get(name) == "missing" for name in ("Python", "Claude Agent SDK", "state directory")):
        return []
    needed_by_local = ("local isolation", "claude CLI", "bash")
    able = ["local"] if all(states.get(name) == "ok" for name in needed_by_local) else []
    known = provider_names()
    return able + [check.name for check in found if check.name in known and check.state == "ok"]


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
    return "optional" if name in ("docker", "providers") else "missing"


def show_check(console: Screen, check: Check) -> None:
    """Print one finding."""
    mark, style = _MARKS[check.state]
    line = Text(mark.ljust(9), style=style).append(check.name.ljust(18), style="bold")
    # Soft wrap: a log keeps its long lines, a terminal wraps them itself.
    console.print(line.append(printable(check.detail), style="not bold"), soft_wrap=True)
    for remedy in check.remedy.splitlines():
        console.print(Text(" " * 27 + f"-> {printable(remedy)}"), soft_wrap=True)


def _conclude(able: Sequence[str], asked: str | None) -> None:
    console = Screen()
    console.print()
    if asked is not None:
        may = "can be used" if able else "cannot be used yet: see what is MISSING above"
        console.print(f"{printable(asked)} {may}.")
    elif able:
        run = "agenthost demo" if "local" in able else f'agenthost run --provider {able[0]} "..."'
        console.print(f"Agents can run here, with {', '.join(able)}. Try: {run}", soft_wrap=True)
    else:
        console.print("Agents cannot run on this machine yet: see what is MISSING above.")
