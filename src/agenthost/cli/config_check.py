"""``agenthost config check``: what a config says, where each value comes from, and what is wrong with it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from agenthost.cli.allow import HERE
from agenthost.cli.transcript import Screen, printable
from agenthost.errors import (
    AgentHostError,
    ConfigError,
    IsolationUnavailableError,
    MissingCredentialError,
    MissingExtraError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from agenthost.config import Config
    from agenthost.sandbox import Capabilities
    from agenthost.spec import SandboxSpec

_WRONG = 2

commands = typer.Typer(
    name="config",
    add_completion=False,
    help="Look at agenthost.toml and AGENTHOST_* variables.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@commands.callback()
def group() -> None:
    """Look at agenthost.toml and AGENTHOST_* variables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One setting, as it may be shown: of a secret only the variable that holds it."""

    key: str
    value: Any
    source: str


@dataclass(slots=True, kw_only=True)
class Report:
    """What was found.

    Attributes:
        problems: What keeps it from being used.
        notes: What keeps it from being used on this machine.
    """

    path: str | None
    provider: str | None = None
    values: list[Value] = field(default_factory=list[Value])
    problems: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])


@commands.command()
def check(
    path: Annotated[
        Path | None,
        typer.Argument(help="The file. Not given: AGENTHOST_CONFIG, else ./agenthost.toml if it is there."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The file, named as for the other commands.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Read a config, say what would be used and where it comes from.

    Secrets are not shown. Exits with 2 when something is wrong; nothing is
    made and nothing is asked over a network.
    """
    if path is not None and config is not None:
        raise typer.BadParameter("name the file once, as PATH or with --config", param_hint="--config")
    report = check_config(config if path is None else path)
    if as_json:
        print(json.dumps(_plain(report)))
    else:
        _show(report)
    if report.problems:
        raise typer.Exit(_WRONG)


def check_config(path: Path | None) -> Report:
    """Do all that can be done without making anything."""
    from agenthost.config.load import DEFAULT_PROVIDER, lookup, make_config
    from agenthost.config.mistakes import tell_path
    from agenthost.config.provider_options import open_options
    from agenthost.config.sources import read_sources
    from agenthost.registry import provider_names

    named = path
    if path is None and not os.environ.get("AGENTHOST_CONFIG") and HERE.is_file():
        named = HERE
    report = Report(path=None if named is None else str(named))
    try:
        sources = read_sources(named, os.environ)
    except ConfigError as error:
        report.problems += str(error).splitlines()
        return report
    report.path = None if sources.file is None else str(sources.file)
    if not sources.mistakes:  # what is wrong may be a secret: no value is shown then
        report.values += [
            Value(key=tell_path(place), value=value, source=source)
            for place, value, source in sources.values()
        ]
        report.provider = sources.tables.provider or DEFAULT_PROVIDER
        if sources.tables.provider is None:
            report.values.insert(0, Value(key="provider", value=DEFAULT_PROVIDER, source="default"))
    for name in sources.tables.providers or {}:
        if name in provider_names() and name != (sources.tables.provider or DEFAULT_PROVIDER):
            _attempt(report, partial(open_options, sources, name, partial(lookup, sources)))
    _attempt(report, lambda: _look_closer(report, make_config(sources)), essential=True)
    report.problems = sorted(set(report.problems))
    return report


def _look_closer(report: Report, config: Config) -> None:
    """Ask the chosen provider whether it could make this sandbox."""
    from agenthost.agent.configured import safe_defaults
    from agenthost.agent.credentials import check_credentials, check_headers, check_reach
    from agenthost.agent.plan import check_questions
    from agenthost.registry import open_provider

    credentials = config.credentials or "host"
    _attempt(report, partial(check_credentials, credentials))
    provider = open_provider(config.provider)
    able: Capabilities | None = getattr(provider, "capabilities", None)  # some tell it once they are set up
    if able is not None:
        name, network = f"provider {report.provider!r}", config.spec.network
        bypasses = config.options.get("permission_mode") == "bypassPermissions"
        _attempt(report, partial(check_questions, bypasses, safe_defaults(config), able.isolation, name))
        _attempt(report, partial(check_headers, credentials, able.header_injection, name))
        _attempt(report, partial(check_reach, credentials, network, able.default_network, name))
    ask: Callable[[SandboxSpec], None] | None = getattr(provider, "check", None)
    if ask is not None:
        try:
            ask(config.spec)
        except AgentHostError:
            raise
        except Exception as error:  # noqa: BLE001 - of an adapter's code: the report must show what else is wrong
            report.problems.append(
                f"the adapter of provider {report.provider!r} has a fault: its check() raised "
                f"{type(error).__name__}: {error}"
            )


def _attempt(report: Report, do: Callable[[], object], *, essential: bool = False) -> None:
    try:
        do()
    except (IsolationUnavailableError, MissingExtraError, MissingCredentialError) as error:
        chosen = isinstance(error, MissingExtraError | MissingCredentialError) and essential
        found = report.problems if chosen else report.notes
        found += str(error).splitlines()
    except (ConfigError, UnsupportedError) as error:
        report.problems += str(error).splitlines()


def _plain(report: Report) -> dict[str, Any]:
    return {
        "path": report.path,
        "ok": not report.problems,
        "provider": report.provider,
        "values": [{"key": one.key, "value": one.value, "source": one.source} for one in report.values],
        "problems": report.problems,
        "notes": report.notes,
    }


def _show(report: Report) -> None:
    screen = Screen()
    screen.print(Text(f"config: {report.path or 'environment variables alone'}"), soft_wrap=True)
    width = max((len(one.key) for one in report.values), default=0)
    for one in report.values:
        line = Text(f"  {printable(one.key).ljust(width)} = ").append(printable(_tell(one.value)))
        screen.print(line.append(f"  ({one.source})", style="dim"), soft_wrap=True)
    for note in report.notes:
        screen.print(Text(f"note: {printable(note)}", style="yellow"), soft_wrap=True)
    for problem in report.problems:
        screen.print(Text(f"wrong: {printable(problem)}", style="bold red"), soft_wrap=True)
    if not report.problems:
        screen.print("Nothing is wrong with it.")


def _tell(value: Any) -> str:
    from agenthost.config.sources import is_reference

    if is_reference(value):
        name = value["env"]
        return f"the environment variable {name}" + ("" if os.environ.get(name) else ", which is not set")
    return json.dumps(value, ensure_ascii=False, default=str)
