"""load_config: from files and variables to what HostedAgent and open_provider take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Literal

from agenthost.config.build import make_defaults, make_limits, make_options, make_spec
from agenthost.config.provider_options import open_options
from agenthost.config.shape import Path
from agenthost.config.sources import Sources, read_sources
from agenthost.config.table import Reference, Table
from agenthost.errors import ConfigError, MissingCredentialError, UnknownProviderError
from agenthost.registry import ProviderName, registration
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
    """

    path: FilePath | None
    spec: SandboxSpec
    limits: Limits | None
    options: Mapping[str, Any] = field(repr=False)
    credentials: Credentials | None
    ack: Literal["auto", "manual"] | None
    defaults: Mapping[str, Any] | None
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
        ConfigError: It cannot be read or makes no sense: every mistake, one a line, with file, table and key.
        UnknownProviderError: A provider that does not exist; the message lists those that do.
        MissingExtraError: The chosen provider needs a package; the message holds the command.
        MissingCredentialError: A variable that should hold a secret is not set.
    """
    config = read_config(path)
    _ = config.provider
    return config


def read_config(path: str | os.PathLike[str] | None = None) -> Config:
    """Do the same, but leave the provider for later: the caller may take another one."""
    sources = read_sources(path, os.environ)
    return make_config(sources)


def make_config(sources: Sources) -> Config:
    """Return the config of what was read. Raises as load_config."""
    sources.require()
    tables = sources.tables
    _check_names(sources)

    def find(path: Path, reference: Reference) -> str:
        return lookup(sources, path, reference)

    try:
        spec = make_spec(tables.spec, find)
        limits = make_limits(tables.limits)
    except MissingCredentialError:
        raise
    except ConfigError as error:
        raise _placed(sources, error) from None
    return Config(
        path=sources.file,
        spec=spec,
        limits=limits,
        options=make_options(tables.agent, find),
        credentials=tables.agent.credentials,
        ack=tables.agent.ack,
        defaults=make_defaults(tables.agent),
        sources=sources,
    )


def lookup(sources: Sources, path: Path, reference: Reference) -> str:
    """Return the value of a variable that is named in place of a secret.

    Raises:
        MissingCredentialError: It is not set, or empty.
    """
    value = os.environ.get(reference.env)
    if not value:
        text = f"the environment variable {reference.env} is not set"
        raise MissingCredentialError(sources.tell(path, text))
    return value


def _check_names(sources: Sources) -> None:
    tables = sources.tables
    wanted: list[tuple[Path, str]] = [(("providers", name), name) for name in tables.providers or {}]
    if tables.provider is not None:
        wanted.insert(0, (("provider",), tables.provider))
    for path, name in wanted:
        check_name(sources, path, name)


def check_name(sources: Sources, path: Path, name: str) -> None:
    """Refuse a name that no provider has. Raises UnknownProviderError with its place."""
    try:
        registration(name)
    except UnknownProviderError as error:
        raise UnknownProviderError(sources.tell(path, str(error))) from None


def _placed(sources: Sources, error: ConfigError) -> ConfigError:
    """Say where that is which a value of ours refused, by the field that it names."""
    for name in ("spec", "limits"):
        table: Table = getattr(sources.tables, name)
        for key in sorted(table.model_fields_set, key=len, reverse=True):
            if key in str(error):
                return ConfigError(sources.tell((name, key), str(error)))
    return ConfigError(f"{sources.file or 'the environment'}: {error}")
