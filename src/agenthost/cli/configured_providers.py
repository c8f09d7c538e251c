"""The providers that every command but ``run`` opens, with their options from a config.

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
from agenthost.errors import AgentHostError, ConfigError, MissingCredentialError, MissingExtraError
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
    """The providers that could be opened, and why the others could not. Each is by its name in the registry.

    Attributes:
        providers: Those that are open.
        problems: Why a provider that is set up could not be asked: the command fails.
        not_set_up: Why a provider is not set up on this machine, or for this user: the command only says so.
        configured: Those of ``not_set_up`` that the config has options for.
        absent: Why a provider is of no interest here: its package, or its engine, is not installed.
        again: What another command's line needs to look at the same place, with a space before it.
    """

    providers: dict[str, SandboxProvider] = field(default_factory=dict[str, "SandboxProvider"])
    problems: dict[str, str] = field(default_factory=dict[str, str])
    not_set_up: dict[str, str] = field(default_factory=dict[str, str])
    configured: set[str] = field(default_factory=set[str])
    absent: dict[str, str] = field(default_factory=dict[str, str])
    again: str = ""

    def notices(self) -> list[str]:
        """Return what to say about the providers that are not set up; each is named once."""
        lines = [
            f"provider {name} is not set up and was not asked: {self.not_set_up[name]}"
            for name in sorted(self.configured)
        ]
        others = sorted(self.not_set_up.keys() - self.configured)
        if others:
            what = f"`agenthost providers{self.again}` says what is missing"
            lines.append(f"not asked, because they are not set up: {', '.join(others)}; {what}")
        return lines

    def why_not(self, name: str) -> str:
        """Return why a provider was not asked; empty when it was."""
        for reasons in (self.problems, self.not_set_up, self.absent):
            if name in reasons:
                return reasons[name]
        return "" if name in self.providers else "this command did not look there"


def where_said(config: Path | None, allow: Sequence[AllowOptions] | None, *named: str | None) -> Where:
    """Return what the options of a command say."""
    return Where(named=tuple(name for name in named if name is not None), config=config, allowed=bool(allow))


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
    opened = Opened(again=flags_again(where.config, allowed=where.allowed))
    found = find_names(where)
    for name, error in found.wrong.items():
        if where.named:
            raise error
        _keep(opened, name, error, configured=True)
    async with AsyncExitStack() as stack:
        for name in found.names:
            configured = bool(options_of(name))
            try:
                provider = await stack.enter_async_context(open_provider(name))
            except Exception as error:
                if where.named:
                    raise
                _keep(opened, str(name), error, configured=configured)
            else:
                if where.named or configured or not _is_nowhere(provider):
                    opened.providers[str(name)] = provider
                else:
                    opened.absent[str(name)] = "no container engine runs on this machine"
        yield opened


def _keep(opened: Opened, name: str, error: Exception, *, configured: bool) -> None:
    """Keep why a provider that was not named could not be opened."""
    reason = "; ".join(str(error).splitlines()) or type(error).__name__
    if isinstance(error, MissingExtraError) and not configured:
        opened.absent[name] = reason
    elif isinstance(error, MissingExtraError | MissingCredentialError) or not (
        configured or isinstance(error, AgentHostError)
    ):
        # Also a third party's provider that fails in its own way, perhaps because a variable is missing:
        # without options it cannot have made a sandbox here.
        opened.not_set_up[name] = reason
        if configured:
            opened.configured.add(name)
    else:
        opened.problems[name] = reason


def _is_nowhere(provider: SandboxProvider) -> bool:
    """Tell whether it is a container engine that is not on this machine and that nobody has named."""
    path: object = getattr(getattr(provider, "address", None), "path", None)
    return isinstance(path, str) and not os.path.exists(path) and not os.environ.get("DOCKER_HOST")


@dataclass(slots=True)
class Names:
    """Which providers there are.

    Attributes:
        names: Those that can be opened, each with its options.
        wrong: What is wrong with the options of the others, by name.
        sources: The config; None when there is none.
    """

    names: list[str] = field(default_factory=list[str])
    wrong: dict[str, ConfigError] = field(default_factory=dict[str, ConfigError])
    sources: Sources | None = None

    def named(self, name: str) -> str:
        """Return a provider's name with its options. Raises ConfigError when these are wrong."""
        if name in self.wrong:
            raise self.wrong[name]
        return next(one for one in self.names if one == name)


def find_names(where: Where) -> Names:
    """Return the providers that were named, or all there are, with their options; say where these are from.

    Raises:
        ConfigError: The config makes no sense.
    """
    if not may_have_config(where.config):
        return Names(list(where.named or provider_names()))
    sources = _read(where)
    found = Names(sources=sources)
    names: tuple[str, ...] = where.named or (*provider_names(), *(sources.tables.providers or {}))
    for name in dict.fromkeys(names):
        try:
            found.names.append(_with_options(sources, name, allowed=where.allowed))
        except ConfigError as error:
            found.wrong[name] = error
    used = [source for name in found.names if options_of(name) for source in _sources_of(sources, name)]
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
        advice = "nothing was done: mend this"
        if not all(line.startswith("environment variable ") for line in str(error).splitlines()):
            advice += ", or name another config with --config"
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
