"""``agenthost audit show``: what the audit log of an agent holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from agenthost.agent.audit.log import encode, read_log
from agenthost.agent.audit.settings import all_logs, find_log
from agenthost.cli.tables import print_table
from agenthost.errors import AgentError, ConfigError

_HEADS = ("N", "TIME", "EVENT", "TOOL", "WHAT")
_DIGEST = 12  # characters of a digest in the table
# Fields that every record has, or that have a column of their own.
_COMMON = frozenset({"n", "time", "agent", "event", "tool", "seq", "at", "part", "parts"})

commands = typer.Typer(
    name="audit",
    add_completion=False,
    help="Read audit logs of agents.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@commands.callback()
def group() -> None:
    """Read audit logs of agents."""


@commands.command()
def show(
    agent: Annotated[
        str | None,
        typer.Argument(
            help="An agent's name or the beginning of it, or the path of a log. Not given: the newest log."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the records, one JSON object a line.")
    ] = False,
) -> None:
    """Print the audit log of an agent: every tool call, every decision and who made it.

    It needs no sandbox: the log is on this host and stays when the agent has ended.
    """
    records = read_log(_find(agent))
    if as_json:
        for record in records:
            print(encode(record).decode(), end="")
    else:
        print_table(_HEADS, [_cells(record) for record in records])


def _find(text: str | None) -> Path:
    """Return the log that a text names.

    Raises:
        AgentError: There is none.
        ConfigError: There are more than one.
    """
    if text is not None and os.sep in text:
        path = Path(text)
        if not path.is_file():
            raise AgentError(f"there is no audit log {text}")
        return path
    logs = all_logs()
    if text is None:
        if not logs:
            raise AgentError('there is no audit log here: HostedAgent(audit="digest") or [audit] makes one')
        return logs[0]
    exact = find_log(text)
    if exact is not None:
        return exact
    found = [path for path in logs if path.name.startswith(text)]
    if len(found) > 1:
        names = ", ".join(sorted(path.stem for path in found)[:10])
        raise ConfigError(f"{text!r} is the beginning of more than one agent's name: {names}")
    if not found:
        raise AgentError(f"there is no audit log of an agent {text!r} on this machine")
    return found[0]


def _cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    told = (f"{name}={_tell(value)}" for name, value in record.items() if name not in _COMMON)
    return (
        str(record["n"]),
        str(record.get("time", "-"))[:19],
        str(record.get("event", "-")),
        str(record.get("tool") or "-"),
        " ".join(told),
    )


def _tell(value: object) -> str:
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        if "sha256" in fields:
            return f"{fields.get('text', str(fields['sha256'])[:_DIGEST])}"
        return ",".join(fields) or "-"  # files by path
    if isinstance(value, list):
        return ",".join(map(str, cast("list[object]", value))) or "-"
    return str(value)
