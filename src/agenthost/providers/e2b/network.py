"""What a sandbox may reach, and the headers that E2B's proxy adds to its requests on the way out."""

from __future__ import annotations

from typing import Any

from agenthost.spec import SandboxSpec

PUBLIC = "public_ports"
_EVERYTHING = "0.0.0.0/0"


def network_options(spec: SandboxSpec) -> dict[str, Any]:
    """Return the arguments of the vendor's ``create``."""
    policy = spec.network
    network: dict[str, Any] = {"allow_public_traffic": bool(spec.provider_options.get(PUBLIC, False))}
    if policy is not None and policy.mode == "allow":
        # E2B refuses names without the entry that denies the rest; an allowed one beats it.
        network.update(allow_out=[host.lower() for host in policy.hosts], deny_out=[_EVERYTHING])
    rules: dict[str, dict[str, str]] = {}
    for one in spec.inject:
        rules.setdefault(one.host.lower(), {})[one.header] = one.secret
    if rules:
        network["rules"] = {host: [{"transform": {"headers": headers}}] for host, headers in rules.items()}
    options: dict[str, Any] = {"network": network}
    if policy is not None and policy.mode != "allow":
        options["allow_internet_access"] = policy.mode == "open"
    return options
