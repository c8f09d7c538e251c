"""What a sandbox may reach, and the headers that Vercel's firewall adds to its requests on the way out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from agenthost.adapter.network import check_header_injection, is_host
from agenthost.errors import UnsupportedError
from agenthost.spec import SandboxSpec

# Vercel publishes no limits of its own for these.
check_headers = partial(check_header_injection, vendor="Vercel")


def check_network(spec: SandboxSpec) -> None:
    """Refuse addresses in a list of hosts. Raises UnsupportedError."""
    policy = spec.network
    for host in policy.hosts if policy is not None and policy.mode == "allow" else ():
        if not is_host(host):
            raise UnsupportedError(
                f"network=allow: with the address {host!r} in the list Vercel leaves DNS open to every name; "
                "name hosts only"
            )


def network_policy(spec: SandboxSpec) -> Mapping[str, Any] | None:
    """Return the policy as Vercel takes it; None is its default, an open network."""
    policy = spec.network
    mode = "open" if policy is None else policy.mode
    hosts = ["*"] if mode == "open" else [host.lower() for host in policy.hosts] if policy else []
    allow: dict[str, list[Any]] = {host: [] for host in hosts}
    added: dict[str, dict[str, str]] = {}
    for one in spec.inject:
        added.setdefault(one.host.lower(), {})[one.header] = one.secret
    for host, headers in added.items():
        allow[host] = [{"transform": [{"headers": headers}]}]
    if mode == "none":
        return {"mode": "deny-all"}
    return None if mode == "open" and not added else {"allow": allow}
