"""From checked tables to what the library takes; here secrets are looked up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agenthost.config.agent_table import OWN, AgentTable
from agenthost.config.shape import Path
from agenthost.config.table import Reference
from agenthost.config.tables import Allowed, LimitsTable, SpecTable
from agenthost.spec import HeaderInjection, Limits, Mount, NetworkPolicy, ResourceLimits, SandboxSpec

Lookup = Callable[[Path, Reference], str]


def make_spec(table: SpecTable, lookup: Lookup) -> SandboxSpec:
    """Return the spec.

    Raises:
        ConfigError: What no provider could make, by the field's name.
        MissingCredentialError: A variable is not set.
    """
    given: dict[str, Any] = table.model_dump(exclude_unset=True)
    if table.network is not None:
        network = table.network
        given["network"] = (
            NetworkPolicy.allow(network.allow) if isinstance(network, Allowed) else NetworkPolicy(network)
        )
    if "limits" in given:
        given["limits"] = ResourceLimits(**given["limits"])
    given["mounts"] = tuple(Mount(source=one.source, target=one.target) for one in table.mounts or ())
    given["inject"] = tuple(
        HeaderInjection(
            host=one.host,
            header=one.header,
            secret=lookup(("spec", "inject", number, "secret"), one.secret),
        )
        for number, one in enumerate(table.inject or ())
    )
    return SandboxSpec(**given)


def make_limits(table: LimitsTable) -> Limits | None:
    """Return the bounds; None when none is set."""
    given = table.model_dump(exclude_unset=True)
    return Limits(**given) if given else None


def make_options(table: AgentTable, lookup: Lookup) -> dict[str, Any]:
    """Return fields of ClaudeAgentOptions, those that are set.

    Raises:
        MissingCredentialError: A variable is not set.
    """
    given: dict[str, Any] = table.model_dump(exclude_unset=True, exclude=set(OWN))
    if "env" in given:
        given["env"] = _texts(table.env or {}, ("agent", "env"), lookup)
    for name, server in (table.mcp_servers or {}).items():
        for key, texts in (("env", server.env), ("headers", server.headers)):
            if key in given["mcp_servers"][name]:
                path = ("agent", "mcp_servers", name, key)
                given["mcp_servers"][name][key] = _texts(texts or {}, path, lookup)
    if "extra_args" in given:
        # The SDK's None is a flag without a value, and TOML has no None.
        given["extra_args"] = {
            key: None if value is True else value for key, value in (table.extra_args or {}).items()
        }
    return given


def make_defaults(table: AgentTable) -> dict[str, Any] | None:
    """Return the fields of SafeDefaults that are set; None for the SDK's own defaults in everything."""
    if isinstance(table.defaults, str):
        return None
    given: dict[str, Any] = {}
    for name, value in table.defaults:
        if value is not None:
            given[name] = None if value == "sdk" else value
    for name in ("setting_sources", "other_models", "other_fields"):
        if given.get(name) is not None:
            given[name] = tuple(given[name])
    return given


def _texts(texts: Mapping[str, str | Reference], path: Path, lookup: Lookup) -> dict[str, str]:
    return {
        key: lookup((*path, key), value) if isinstance(value, Reference) else value
        for key, value in texts.items()
    }
