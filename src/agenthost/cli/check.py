"""``agenthost check``: how safe the agent of a config would be, before anything is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from agenthost.agent import Audit, SafeDefaults
from agenthost.agent.security_report import Finding, SecurityReport, make_report
from agenthost.cli.allow import may_have_config
from agenthost.cli.transcript import Screen, printable

if TYPE_CHECKING:
    from agenthost.config import Config

_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red"}
_INDENT = 5 + 1 + 18 + 1  # of the verdict and the name


def check(
    config: Annotated[
        Path | None,
        typer.Argument(help="Settings. Not given: AGENTHOST_CONFIG, else ./agenthost.toml if it is there."),
    ] = None,
    named: Annotated[
        Path | None, typer.Option("--config", help="Settings, named as for the other commands.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="Another provider than the config's; local without a config.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on a warning, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Report how safe the agent of a config would be: pass, warn or fail, with what to do.

    It judges what HostedAgent.from_config would make: isolation, mounts, credentials, audit log, turns and
    budget, permission mode, blocked tools, and the bounds of what the agent may take.
    Nothing is made, and no vendor is asked. Exits with 1 when something fails, with --strict also on a
    warning, and with 2 when the config makes no sense.
    """
    if config is not None and named is not None:
        raise typer.BadParameter("name the file once, as CONFIG or with --config", param_hint="--config")
    report = make_report(**_arguments(named if config is None else config, provider))
    if as_json:
        print(json.dumps(report.to_dict()))
    else:
        _show(report)
    if not (report.strictly_ok if strict else report.ok):
        raise typer.Exit(1)


def _arguments(path: Path | None, provider: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"options": None, "spec": None, "limits": None, "defaults": SafeDefaults()}
    found |= {"provider": provider, "sandbox": None, "credentials": "host", "audit": None}
    if not may_have_config(path):
        return found
    from agenthost.agent.configured import options_of, safe_defaults
    from agenthost.cli.run_config import find_config

    config = find_config(path, provider)
    if config is None:
        return found
    found |= {"options": options_of(config, None), "spec": config.spec, "limits": config.limits}
    found |= {"defaults": safe_defaults(config), "credentials": config.credentials or "host"}
    found["audit"] = None if config.audit is None else Audit(**config.audit)
    return found | {"provider": _named(config, provider)}


def _named(config: Config, provider: str | None) -> str:
    return config.provider if provider is None else config.named(provider)


def _show(report: SecurityReport) -> None:
    screen = Screen()
    screen.print(Text(f"provider: {printable(report.provider)}"), soft_wrap=True)
    for one in report.findings:
        _show_one(screen, one)
    counts = {word: sum(one.verdict == word for one in report.findings) for word in _STYLES}
    screen.print(", ".join(f"{count} {word}" for word, count in counts.items()))


def _show_one(screen: Screen, finding: Finding) -> None:
    line = Text(finding.verdict.ljust(6), style=_STYLES[finding.verdict])
    line.append(finding.name.ljust(19), style="bold").append(printable(finding.detail), style="not bold")
    # Soft wrap: a log keeps its long lines, a terminal wraps them itself.
    screen.print(line, soft_wrap=True)
    if finding.fix:
        screen.print(Text(" " * _INDENT + f"-> {printable(finding.fix)}"), soft_wrap=True)
