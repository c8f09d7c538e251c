"""load_config: from files and variables to what HostedAgent and open_provider take."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path as FilePath
from typing import Any, Literal

from agenthost.config.build import make_defaults, make_limits, make_options, make_spec
from agenthost.config.collected import Collected
from agenthost.config.provider_options import open_options
from agenthost.config.shape import Path
from agenthost.config.sources import Sources, read_sources, references
from agenthost.config.table import Reference, Table
from agenthost.errors import ConfigError, MissingCredentialError, UnknownProviderError
from agenthost.registry import ProviderName, provider_names, registration
from agenthost.spec import Limits, SandboxSpec

DEFAULT_PROVIDER = "local"

Credentials = Literal["host", "env", "provider"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Checked settings. What may hold a secret is not shown.

    Attributes:
        path: The file they are from; None when they are from the environment alone.
        spec: What sandbox to make.
        limits: Bounds; None when none was set.
        options: The fields of ClaudeAgentOptions that are set, as a mapping.
        credentials: As for HostedAgent; None when it was not set.
        ack: As for HostedAgent; None when it was not set.
        defaults: The fields of SafeDefaults that are set; None is the SDK's own defaults in everything.
        audit: The fields of Audit that are set; None when none was set.
    """

    path: FilePath | None
    spec: SandboxSpec
    limits: Limits | None
    options: Mapping[str, Any] = field(repr=False)
    credentials: Credentials | None
    ack: Literal["auto", "manual"] | None
    defaults: Mapping[str, Any] | None
    audit: Mapping[str, Any] | None
    sources: Sources = field(repr=False, compare=False)

    @property
    def provider(self) -> ProviderName:
        """Who makes the sandbox, with the options of its table: for ``open_provider`` and HostedAgent.

        Raises:
            ConfigError: As ``named``.
        """
        return self.named(self.sources.tables.provider or DEFAULT_PROVIDER)

    def named(self, name: str) -> ProviderName:
        """Return another provider with the options of its table.

        Raises:
            UnknownProviderError: No provider has this name.
            MissingExtraError: A package is not installed.
            MissingCredentialError: A variable that its table names is not set.
            ConfigError: An option that it does not know, or of the wrong type.
        """
        return ProviderName(name, open_options(self.sources, name, self.lookup))

    def lookup(self, path: Path, reference: Reference) -> str:
        """Return a secret. Raises MissingCredentialError."""
        return lookup(self.sources, path, reference)


def load_config(path: str | os.PathLike[str] | None = None) -> Config:
    """Read settings from a file and from ``AGENTHOST_*`` variables, which win over the file.

    All of it is checked, and so are the options of the chosen provider, which is imported for that. Nothing
    is made.

    Args:
        path: The file. None is the one that AGENTHOST_CONFIG names; without that, the variables alone.
            ``./agenthost.toml`` is read by the ``agenthost`` command and by nothing else.

    Raises:
        ConfigError: It cannot be read or makes no sense: every mistake, one a line, sorted, with file, table
            and key. It is one of these where all mistakes are of this kind:
        UnknownProviderError: A provider that does not exist; the message lists those that do.
        MissingExtraError: The chosen provider needs a package; the message holds the command.
        MissingCredentialError: A variable that should hold a secret is not set.
    """
    return read_config(path)


def read_config(
    path: str | os.PathLike[str] | None = None, *, provider: str | None = None, opens: bool = True
) -> Config:
    """Do the same for a caller that takes another provider, or none. Arguments are those of make_config."""
    return make_config(read_sources(path, os.environ), provider=provider, opens=opens)


def make_config(sources: Sources, *, provider: str | None = None, opens: bool = True) -> Config:
    """Return the config of what was read.

    Args:
        sources: What was read.
        provider: The provider whose options are checked; None is the one that the config chooses.
        opens: Whether a provider's options are checked at all.

    Raises:
        ConfigError: As load_config.
    """
    tables = sources.tables
    find = partial(lookup, sources)
    chosen = tables.provider or DEFAULT_PROVIDER if provider is None else provider
    found = Collected()
    with found.step():
        sources.require()
    _check_names(sources, found)
    for path, reference in references(sources.tree):
        with found.step():
            find(path, reference)
    _check_values(sources, found)
    # _check_names reports an unknown provider of the config. An unknown one of the caller is reported here.
    if opens and (provider is not None or chosen in provider_names()):
        with found.step():
            open_options(sources, chosen, find)
    found.require()
    return Config(
        path=sources.file,
        spec=make_spec(tables.spec, find),
        limits=make_limits(tables.limits),
        options=make_options(tables.agent, find),
        credentials=tables.agent.credentials,
        ack=tables.agent.ack,
        defaults=make_defaults(tables.agent),
        audit=tables.audit.model_dump(exclude_unset=True) or None,
        sources=sources,
    )


def lookup(sources: Sources, path: Path, reference: Reference) -> str:
    """Return the value of a variable that is named in place of a secret.

    Raises:
        MissingCredentialError: It is not set, or empty.
    """
    value = os.environ.get(reference.env)
    if not value:
        text = f"the environment variable {reference.env} is not set: set it, or remove this key"
        raise MissingCredentialError(sources.tell(path, text))
    return value


def _check_values(sources: Sources, found: Collected) -> None:
    """Try what the library refuses of sandboxes and bounds: each key by itself.

    Secrets are not looked up here, so that a missing one is reported once.
    """
    spec, limits = sources.tables.spec, sources.tables.limits
    makers: list[tuple[str, Table, Callable[[Any], object]]] = [
        ("spec", spec, partial(make_spec, lookup=lambda _path, _reference: "secret")),
        ("limits", limits, make_limits),
    ]
    for name, table, make in makers:
        for key in table.model_fields_set:
            with found.step():
                try:
                    make(type(table).model_construct(_fields_set={key}, **{key: getattr(table, key)}))
                except ConfigError as error:
                    raise ConfigError(sources.tell((name, key), str(error))) from None


def _check_names(sources: Sources, found: Collected) -> None:
    tables = sources.tables
    wanted: list[tuple[Path, str]] = [(("providers", name), name) for name in tables.providers or {}]
    if tables.provider is not None:
        wanted.insert(0, (("provider",), tables.provider))
    for path, name in wanted:
        with found.step():
            check_name(sources, path, name)


def check_name(sources: Sources, path: Path, name: str) -> None:
    """Refuse a name that no provider has. Raises UnknownProviderError with its place."""
    try:
        registration(name)
    except UnknownProviderError as error:
        raise UnknownProviderError(sources.tell(path, str(error))) from None
