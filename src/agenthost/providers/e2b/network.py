"""What a sandbox may reach, and the headers that E2B's proxy adds to its requests on the way out."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from agenthost.errors import ConfigError, UnsupportedError
from agenthost.spec import HeaderInjection, SandboxSpec

_EVERYTHING = "0.0.0.0/0"
_HOST = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z", re.IGNORECASE)
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_VALUE = re.compile(r"[\x20-\x7e]+\Z")
# What E2B takes of headers: characters of a name, of a value, and how many for one host.
_NAME_LONGEST, _VALUE_LONGEST, _MOST = 64, 2048, 20


def network_options(spec: SandboxSpec, *, public: bool) -> dict[str, Any]:
    """Return what the vendor's ``create`` is told. ``public``: ports are open to the internet."""
    policy = spec.network
    network: dict[str, Any] = {"allow_public_traffic": public}
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
    unreached = [one.host for one in spec.inject if not _reaches(policy.hosts, one.host)]
    if unreached:
        raise ConfigError(f"inject: network={policy.mode} does not let the sandbox reach {unreached[0]}")


def check_headers(headers: Sequence[HeaderInjection]) -> None:
    """Refuse headers that cannot be added. See SupportsHeaderInjection.

    Raises:
        ConfigError: A header or a value that is none, is too long, or is there twice; too many of them.
        UnsupportedError: A host that is no name.
    """
    for one in headers:
        if not _HOST.match(one.host):
            raise UnsupportedError(f"inject: E2B adds headers for host names, {one.host!r} is none")
        if not _HEADER.match(one.header):
            raise ConfigError(f"inject: {one.header!r} is no name of a header")
        if not _VALUE.match(one.secret):
            raise ConfigError(f"inject: the value of {one.header} for {one.host} is no line of ASCII")
        if len(one.header) > _NAME_LONGEST:
            raise ConfigError(f"inject: {one.header!r} is longer than the {_NAME_LONGEST} characters of E2B")
        if len(one.secret) > _VALUE_LONGEST:
            raise ConfigError(
                f"inject: the value of {one.header} for {one.host} is longer than the {_VALUE_LONGEST} "
                "characters of E2B"
            )
    # Neither has cases: of two that are the same, one would be lost.
    for (host, header), times in Counter((one.host.lower(), one.header.lower()) for one in headers).items():
        if times > 1:
            raise ConfigError(f"inject: {header} for {host} is there {times} times")
    for host, times in Counter(one.host.lower() for one in headers).items():
        if times > _MOST:
            raise ConfigError(f"inject: {times} headers for {host}; E2B adds {_MOST} at most")


def _reaches(allowed: Iterable[str], host: str) -> bool:
    """Whether one of these names is the host's, or a wildcard above it."""
    host = host.lower()
    for name in map(str.lower, allowed):
        if name == host or (name.startswith("*.") and host.endswith(name[1:])):
            return True
    return False


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return False
    return True
