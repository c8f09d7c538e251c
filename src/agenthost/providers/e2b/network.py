"""What a sandbox may reach, and the headers that E2B's proxy adds to its requests on the way out."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any

from agenthost.errors import ConfigError, UnsupportedError
from agenthost.spec import HeaderInjection, SandboxSpec

_EVERYTHING = "0.0.0.0/0"
_HOST = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z", re.IGNORECASE)
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_VALUE = re.compile(r"[\x20-\x7e]+\Z")


def network_options(spec: SandboxSpec, *, public: bool) -> dict[str, Any]:
    """Return what the vendor's ``create`` is told. ``public``: ports are open to the internet."""
    policy = spec.network
    network: dict[str, Any] = {"allow_public_traffic": public}
    if policy is not None and policy.mode == "allow":
        # E2B refuses names without the entry that denies the rest; an allowed one beats it.
        network.update(allow_out=list(policy.hosts), deny_out=[_EVERYTHING])
    rules: dict[str, dict[str, str]] = {}
    for one in spec.inject:
        rules.setdefault(one.host, {})[one.header] = one.secret
    if rules:
        network["rules"] = {host: [{"transform": {"headers": headers}}] for host, headers in rules.items()}
    options: dict[str, Any] = {"network": network}
    if policy is not None and policy.mode != "allow":
        options["allow_internet_access"] = policy.mode == "open"
    return options


def check_network(spec: SandboxSpec) -> None:
    """Refuse a policy that E2B would understand otherwise.

    Raises:
        ConfigError: A host that is no name, address or block of addresses; headers for what is not reached.
    """
    policy = spec.network
    if policy is None or policy.mode == "open":
        return
    for host in policy.hosts:
        if not _HOST.match(host) and not _is_address(host):
            raise ConfigError(
                f"network=allow: {host!r} is no host name, no address and no block of addresses"
            )
    unreached = [one.host for one in spec.inject if one.host not in policy.hosts]
    if unreached:
        raise ConfigError(f"inject: network={policy.mode} does not let the sandbox reach {unreached[0]}")


def check_headers(headers: Sequence[HeaderInjection]) -> None:
    """Refuse headers that cannot be added. See SupportsHeaderInjection.

    Raises:
        ConfigError: A header or a value that is none.
        UnsupportedError: A host that is no name.
    """
    for one in headers:
        if not _HOST.match(one.host):
            raise UnsupportedError(f"inject: E2B adds headers for host names, {one.host!r} is none")
        if not _HEADER.match(one.header):
            raise ConfigError(f"inject: {one.header!r} is no name of a header")
        if not _VALUE.match(one.secret):
            raise ConfigError(f"inject: the value of {one.header} for {one.host} is no line of ASCII")


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return False
    return True
