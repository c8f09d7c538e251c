"""What a sandbox of Modal may reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from agenthost.adapter.network import is_host
from agenthost.errors import ConfigError, UnsupportedError
from agenthost.spec import SandboxSpec

DOMAINS = "outbound_domain_allowlist"


def check_network(spec: SandboxSpec) -> None:
    """Refuse what Modal cannot enforce.

    Raises:
        ConfigError: The list of domains is not one, or is for a sandbox without a network.
        UnsupportedError: Modal cannot do it, or not exactly.
    """
    domains, mode = _domains_of(spec), _mode_of(spec)
    if mode == "allow":
        raise UnsupportedError(
            "network=allow: Modal's list of domains looks at the name in TLS alone, on port 443, and leaves "
            "DNS open: it is not enforced exactly. Use NetworkPolicy.none(), with which an agent still "
            f"reaches its model; or take the list for what it is: provider_options={{{DOMAINS!r}: [...]}}"
        )
    if domains is not None and mode == "none":
        raise ConfigError(f"provider_options[{DOMAINS!r}] is for a sandbox that has a network")
    if spec.inject and (mode != "open" or domains is not None):
        raise UnsupportedError(
            "inject: Modal adds headers only in a sandbox with an open network, without a list of domains"
        )


def network_options(spec: SandboxSpec) -> dict[str, Any]:
    """Return the keywords of Modal's ``create``."""
    domains = _domains_of(spec)
    listed = {} if domains is None else {DOMAINS: domains}
    return {"block_network": _mode_of(spec) == "none", **listed}


def network_shown(spec: SandboxSpec) -> str:
    """Return the network in words, for ``info``."""
    return _mode_of(spec) if _domains_of(spec) is None else "open, domains by their TLS name"


def _domains_of(spec: SandboxSpec) -> list[str] | None:
    """Return the domains that a sandbox may reach, None for all. Raises ConfigError."""
    value = spec.provider_options.get(DOMAINS)
    if value is None:
        return None
    domains = cast("Sequence[object]", value) if isinstance(value, list | tuple) else [None]
    found = [one for one in domains if isinstance(one, str) and (one == "*" or is_host(one))]
    if len(found) != len(domains):
        raise ConfigError(f"provider_options[{DOMAINS!r}] is {value!r}; it must be a list of domains")
    return found


def _mode_of(spec: SandboxSpec) -> str:
    return "open" if spec.network is None else spec.network.mode
