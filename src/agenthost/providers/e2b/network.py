"""What a sandbox may reach, and the headers that E2B's proxy adds to its requests on the way out."""

from __future__ import annotations

from functools import partial
from typing import Any

from agenthost.adapter.network import check_header_injection
from agenthost.spec import SandboxSpec

PUBLIC = "public_ports"
_EVERYTHING = "0.0.0.0/0"

# Sources: infra 54693ff, sandbox_create.go (hosts and their length), and its API's validation of headers.
check_headers = partial(
    check_header_injection,
    vendor="E2B",
    wildcards=False,
    most_hosts=10,
    longest_host=128,
    most_of_host=20,
    longest_name=64,
    longest_value=2048,
)


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
