"""``agenthost providers``: what every known provider can do, and whether it can be used here."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Annotated, Any, Literal, cast

import anyio
import typer
from rich.table import Table
from rich.text import Text

from agenthost.cli.configured_providers import AllowOption, ConfigOption, Where, find_names, where_said
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.transcript import Screen, printable
from agenthost.errors import AgentHostError, ConfigError, MissingCredentialError, MissingExtraError
from agenthost.registry import load_provider, open_provider, provider_names, registration
from agenthost.sandbox import Capabilities
from agenthost.spec import SandboxSpec

_PATIENCE = 5.0  # seconds that a provider may take to answer

State = Literal["usable", "not installed", "not set up", "not usable", "broken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One provider.

    Attributes:
        kind: Where it is from: ``built-in``, ``entry point`` or ``registered``; ``unknown`` for a name that
            only a config has.
        distribution: Of an entry point.
        state: Whether it can be used here.
        remedy: What is to be done, where it cannot.
        capabilities: None where they are not known before it is set up.
    """

    name: str
    kind: str
    distribution: str | None = None
    state: State
    remedy: str = ""
    capabilities: Capabilities | None = None


def providers(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigOption = None,
    allow: AllowOption = None,
) -> None:
    """Print what every provider can do, and whether it can be used here or what to install.

    Each one is asked for its sandboxes, with its options from the config and its environment variables.
    """
    rows = run_until_stopped(partial(look, where_said(config, allow)), ending="")
    if as_json:
        print(json.dumps({"providers": [_plain(row) for row in rows]}))
    else:
        _show(rows)


async def look(where: Where) -> list[Row]:
    """Look at all providers at once. Raises ConfigError for a config that makes no sense."""
    names = find_names(where)
    found: dict[str, Row] = {}

    async def see(name: str, wrong: ConfigError | None) -> None:
        found[name] = await look_at(name, wrong)

    async with anyio.create_task_group() as tasks:
        for name in (*names.names, *names.wrong):
            tasks.start_soon(see, name, names.wrong.get(name))
    return [found[name] for name in sorted(found)]


async def look_at(name: str, wrong: ConfigError | None = None) -> Row:
    """Look at one provider.

    Args:
        name: Its name, with its options.
        wrong: What is wrong with its options in the config.
    """
    capabilities: Capabilities | None = None
    state: State = "usable"
    remedy = ""
    known: dict[str, Any] = {"name": str(name), "kind": "entry point"}
    if name not in provider_names():
        known["kind"] = "unknown"
    try:
        entry = registration(name)
        known = {"name": str(name), "kind": entry.kind, "distribution": entry.distribution}
        # What a class says of all of its sandboxes is known before it is set up.
        declared = inspect.getattr_static(load_provider(name), "capabilities", None)
        capabilities = declared if isinstance(declared, Capabilities) else None
        if wrong is not None:
            raise wrong
        async with AsyncExitStack() as stack:
            provider = await stack.enter_async_context(open_provider(name))
            capabilities = provider.capabilities
            if (check := getattr(provider, "check", None)) is not None:
                check(SandboxSpec(name="trial"))
            if getattr(provider, "slow_client", False):
                remedy = f"set up, not contacted: agenthost doctor --provider {name}"
            else:
                with anyio.fail_after(_PATIENCE):
                    async for _ in provider.list():
                        break
    except MissingExtraError as error:
        state, remedy = "not installed", str(error)
    except MissingCredentialError as error:
        state, remedy = "not set up", str(error)
    except TimeoutError:
        state, remedy = "not usable", f"no answer within {_PATIENCE:g} s"
    except (AgentHostError, OSError) as error:
        broken = capabilities is None and wrong is None
        state, remedy = ("broken" if broken else "not usable"), str(wrong or error)
    except Exception as error:  # noqa: BLE001 - of somebody else's code, which must not hide the others
        state, remedy = "broken", f"{registration(name)} fails: {type(error).__name__}: {error}"
    return Row(**known, state=state, remedy=remedy, capabilities=capabilities)


def _plain(row: Row) -> dict[str, Any]:
    said = asdict(row)
    if row.capabilities is not None:
        said["capabilities"] = {
            one.name: _as_list(getattr(row.capabilities, one.name)) for one in fields(Capabilities)
        }
    return said


def _show(rows: Sequence[Row]) -> None:
    screen = Screen()
    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("", style="bold")
    for row in rows:
        table.add_column(row.name, overflow="fold")
    table.add_row("here", *(_state(row) for row in rows))
    for one in fields(Capabilities):
        cells = [_cell(getattr(row.capabilities, one.name, None)) for row in rows]
        table.add_row(one.name.replace("_", " "), *cells)
    if not screen.is_terminal:
        screen.width = 20 + 24 * len(rows)  # a log keeps its long lines
    screen.print(table, crop=False)
    for row in rows:
        if row.remedy:
            screen.print()
            screen.print(Text(f"{row.name}: {printable(row.remedy)}"), soft_wrap=True)


def _state(row: Row) -> Text:
    return Text(row.state, style="green" if row.state == "usable" else "yellow")


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "-"
    if isinstance(value, frozenset):
        return ", ".join(_as_list(cast("frozenset[str]", value))) or "-"
    return "?" if value is None else str(value)


def _as_list(value: Any) -> Any:
    return sorted(cast("Any", value)) if isinstance(value, frozenset) else value
