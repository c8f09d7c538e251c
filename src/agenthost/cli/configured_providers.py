"""The providers that ``ps``, ``logs``, ``attach``, ``stop`` and ``reap`` ask, with their options of a config.

Of the config only the tables ``[providers.NAME]`` count here. An option can tell a provider what to run or
whom to ask: what the file says that merely lies here counts only when the command line says it, too.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agenthost.cli.allow import Allow, may_have_config
from agenthost.cli.transcript import printable
from agenthost.errors import ConfigError, MissingCredentialError, MissingExtraError
from agenthost.registry import ProviderName, open_provider, options_of, provider_names

if TYPE_CHECKING:
    from agenthost.config.sources import Sources
    from agenthost.sandbox import SandboxProvider

_FLAG = f"--allow {Allow.provider_options.value}"


class AllowOptions(Enum):
    """What ``--allow`` of these commands takes."""

    provider_options = Allow.provider_options.value


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Where providers have their options. Not given: AGENTHOST_CONFIG, else ./agenthost.toml if it "
        "is there.",
    ),
]
AllowOption = Annotated[
    list[AllowOptions] | None,
    typer.Option("--allow", help="Let ./agenthost.toml say what providers run and whom they ask."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where a command looks.

    Attributes:
        named: The providers that were named; empty is every one that works here.
        config: What ``--config`` says.
        allowed: Whether the options count that stand in the file which lies here.
    """

    named: tuple[str, ...] = ()
    config: Path | None = None
    allowed: bool = False


@dataclass(slots=True)
class Opened:
    """What could be opened.

    Attributes:
        providers: By name, as the registry has it.
        left_out: Why providers could not be asked that should have been, by name: those that the config has
            options for, and those that could be opened.
        failed: Why others could not be opened, by name.
    """

    providers: dict[str, SandboxProvider] = field(default_factory=dict[str, "SandboxProvider"])
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    failed: dict[str, Exception] = field(default_factory=dict[str, Exception])

    def problems(self) -> dict[str, str]:
        """Return why providers were left out, but for those that nobody has set up on this machine."""
        not_set_up = (MissingExtraError, MissingCredentialError)
        told = {name: error for name, error in self.failed.items() if not isinstance(error, not_set_up)}
        return {
            **self.left_out,
            **{name: str(error) or type(error).__name__ for name, error in told.items()},
        }


def where_said(config: Path | None, allow: Sequence[AllowOptions] | None, *named: str | None) -> Where:
    """Return what the options of a command say."""
    return Where(named=tuple(name for name in named if name), config=config, allowed=bool(allow))


def flags_again(config: Path | None, *, allowed: bool) -> str:
    """Return what the next command's line needs to look at the same place, with a space before it."""
    words = ([] if config is None else [f"--config {shlex.quote(str(config))}"]) + [_FLAG] * allowed
    return "".join(f" {word}" for word in words)


@asynccontextmanager
async def open_providers(where: Where) -> AsyncGenerator[Opened]:
    """Open the providers that were named, or every one that works here.

    Says on stderr where options are from.

    Raises:
        ConfigError: The config makes no sense; of a provider that was named, also that its options are not
            allowed or wrong.
        Exception: A provider that was named cannot be opened.
    """
    opened = Opened()
    async with AsyncExitStack() as stack:
        for name in _find_names(where, opened.left_out):
            try:
                provider = await stack.enter_async_context(open_provider(name))
            except Exception as error:
                if where.named:
                    raise
                if options_of(name):
                    opened.left_out[str(name)] = str(error) or type(error).__name__
                else:
                    opened.failed[str(name)] = error
            else:
                if where.named or options_of(name) or not _is_nowhere(provider):
                    opened.providers[str(name)] = provider
        yield opened


def _is_nowhere(provider: SandboxProvider) -> bool:
    """Tell whether it is a container engine that is not on this machine and that nobody has named."""
    path: object = getattr(getattr(provider, "address", None), "path", None)
    return isinstance(path, str) and not os.path.exists(path) and not os.environ.get("DOCKER_HOST")


def _find_names(where: Where, left_out: dict[str, str]) -> list[str]:
    """Return which providers are to be opened, each with its options."""
    if not may_have_config(where.config):
        return list(where.named or provider_names())
    sources = _read(where)
    found: list[str] = []
    names: tuple[str, ...] = where.named or (*provider_names(), *(sources.tables.providers or {}))
    for name in dict.fromkeys(names):
        try:
            found.append(_with_options(sources, name, allowed=where.allowed))
        except ConfigError as error:
            if where.named:
                raise
            left_out[name] = "; ".join(str(error).splitlines())
    used = [source for name in found if options_of(name) for source in _sources_of(sources, name)]
    if used:
        told = ", ".join(dict.fromkeys(used))
        print(f"agenthost: provider options from {printable(told)}", file=sys.stderr)
    return found


def _read(where: Where) -> Sources:
    """Read the config. A mistake anywhere in it is refused: without it, other sandboxes would be found."""
    from agenthost.cli.run_config import read_here

    try:
        sources = read_here(where.config)
        sources.require()
    except ConfigError as error:
        advice = "no sandbox was looked for: mend this, or name another config with --config"
        raise ConfigError(f"{error}\n{advice}") from None
    return sources


def _with_options(sources: Sources, name: str, *, allowed: bool) -> str:
    """Return a provider's name with the options that the config has for it.

    Not by way of a whole Config: that would want every secret of an agent that is not started here.
    """
    from agenthost.cli.run_config import lies_here
    from agenthost.config.load import check_name, lookup
    from agenthost.config.mistakes import tell_path
    from agenthost.config.provider_options import open_options

    if not (sources.tables.providers or {}).get(name):
        return name
    table = ("providers", name)
    check_name(sources, table, name)
    doubted = [
        tell_path(path)
        for path, _, _ in sources.values()
        if path[:2] == table and sources.variable(path) is None
    ]
    if doubted and lies_here(sources) and not allowed:
        raise ConfigError(
            f"{sources.file} says {', '.join(doubted)}, which tells a provider what to run or whom to ask, "
            f"and counts only when the command line says it, too: {_FLAG}"
        )
    return ProviderName(name, open_options(sources, name, partial(lookup, sources)))


def _sources_of(sources: Sources, name: str) -> list[str]:
    return [source for path, _, source in sources.values() if path[:2] == ("providers", name)]
