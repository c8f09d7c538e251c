"""What a sandbox may reach, and which secrets of the organization it uses, in Daytona's words."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, cast

from agenthost.errors import ConfigError, UnsupportedError
from agenthost.spec import SandboxSpec

SECRETS = "secrets"
_MOST_BLOCKS = 10  # Daytona's limit of a list of addresses


def check_network(spec: SandboxSpec) -> None:
    """Refuse lists that Daytona cannot enforce.

    Raises:
        UnsupportedError: Hosts and addresses together, or too many addresses.
    """
    policy = spec.network
    if policy is None or policy.mode != "allow":
        return
    blocks = [host for host in policy.hosts if _is_address(host)]
    if blocks and len(blocks) < len(policy.hosts):
        raise UnsupportedError(
            "network=allow: Daytona does not state how a list of hosts and one of addresses work together; "
            "name hosts only, or addresses only"
        )
    if len(blocks) > _MOST_BLOCKS:
        raise UnsupportedError(
            f"network=allow: {len(blocks)} addresses; Daytona accepts {_MOST_BLOCKS} at most"
        )


def network_of(spec: SandboxSpec) -> dict[str, Any]:
    """Return what a create states about the network. Nothing for the network that the organization has."""
    policy = spec.network
    if policy is None or policy.mode == "open":
        return {}
    if policy.mode == "none":
        return {"network_block_all": True}
    if not _is_address(policy.hosts[0]):
        return {"domain_allow_list": ",".join(host.lower() for host in policy.hosts)}
    blocks = [str(ipaddress.IPv4Network(host, strict=False)) for host in policy.hosts]
    return {"network_allow_list": ",".join(blocks)}


def refuse_ignored(asked: Mapping[str, Any], sandbox: Any) -> None:
    """Refuse a sandbox that was made without the network policy that was asked for.

    Raises:
        UnsupportedError: Daytona reports another policy.
    """
    for name, value in asked.items():
        if getattr(sandbox, name, None) != value:
            raise UnsupportedError(f"network: Daytona made the sandbox without {name}={value!r}")


def secrets_of(spec: SandboxSpec) -> dict[str, str]:
    """Return the names of the organization's secrets by variable. Raises ConfigError."""
    value = spec.provider_options.get(SECRETS, {})
    found = cast("Mapping[object, object]", value) if isinstance(value, Mapping) else {None: None}
    if not all(isinstance(text, str) and text for pair in found.items() for text in pair):
        raise ConfigError(
            f"provider_options[{SECRETS!r}] must be names of Daytona's secrets by variables, "
            "{'GITHUB_TOKEN': 'my-secret'} for instance"
        )
    return {str(name): str(secret) for name, secret in found.items()}


def _is_address(host: str) -> bool:
    return not host.replace(".", "").replace("/", "").strip("0123456789")
