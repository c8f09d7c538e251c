"""What a sandbox may reach, what reaches it, and the headers that Vercel's firewall adds to its requests."""

from __future__ import annotations

from functools import partial
from typing import Any

from agenthost.adapter.network import check_header_injection, is_host
from agenthost.adapter.record import PORT_LABEL
from agenthost.errors import UnsupportedError
from agenthost.spec import SandboxSpec

# Vercel publishes no limits of its own for these.
check_headers = partial(check_header_injection, vendor="Vercel")


def check_network(spec: SandboxSpec) -> None:
    """Refuse addresses in a list of hosts. Raises UnsupportedError."""
    policy = spec.network
    for host in policy.hosts if policy is not None and policy.mode == "allow" else ():
        if not is_host(host) or host.replace(".", "").isdecimal():
            raise UnsupportedError(
                f"network=allow: with the address {host!r} in the list Vercel leaves DNS open to every name; "
                "name hosts only"
            )


def settings_of(spec: SandboxSpec) -> dict[str, Any]:
    """Return what a create says of a sandbox's network, its place and the port of its guest."""
    policy = spec.network
    mode = "open" if policy is None else policy.mode
    hosts = ["*"] if mode == "open" else [host.lower() for host in policy.hosts] if policy else []
    allow: dict[str, list[Any]] = {host: [] for host in hosts}
    added: dict[str, dict[str, str]] = {}
    for one in spec.inject:
        added.setdefault(one.host.lower(), {})[one.header] = one.secret
    for host, headers in added.items():
        allow[host] = [{"transform": [{"headers": headers}]}]
    given: dict[str, Any] = {} if spec.region is None else {"region": spec.region}
    if mode == "none":
        given["networkPolicy"] = {"mode": "deny-all"}
    elif mode == "allow" or added:
        given["networkPolicy"] = {"allow": allow}
    if PORT_LABEL in spec.labels:
        given["ports"] = [int(spec.labels[PORT_LABEL])]
    return given
