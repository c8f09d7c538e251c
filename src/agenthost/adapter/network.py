"""Check a network policy, and headers that a provider adds to a sandbox's requests on their way out."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from agenthost.errors import ConfigError, UnsupportedError
from agenthost.spec import HeaderInjection, NetworkPolicy

_HOST = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_VALUE = re.compile(r"[\x20-\x7e]+\Z")


def is_host(text: str) -> bool:
    """Return whether text is a host name with a dot in it, or such a name after ``*.``."""
    return _HOST.match(text) is not None


def check_allowed_hosts(policy: NetworkPolicy | None) -> None:
    """Refuse a policy whose hosts a vendor would understand otherwise, or not at all.

    Raises:
        ConfigError: One is not a host name, an IPv4 address or a block of addresses.
    """
    for host in policy.hosts if policy is not None and policy.mode == "allow" else ():
        if not is_host(host) and not _is_address(host):
            raise ConfigError(
                f"network=allow: {host!r} is not a host name, an address or a block of addresses"
            )


def check_header_injection(
    headers: Sequence[HeaderInjection],
    vendor: str,
    *,
    wildcards: bool = True,
    most_hosts: int | None = None,
    most_of_host: int | None = None,
    most: int | None = None,
    longest_host: int | None = None,
    longest_name: int | None = None,
    longest_value: int | None = None,
) -> None:
    """Refuse headers that the vendor cannot add. No message holds a value.

    Args:
        headers: What the caller wants added.
        vendor: The vendor's name, for messages.
        wildcards: Whether a host may begin with ``*.``.
        most_hosts, most_of_host, most: How many hosts, headers of one host, and headers the vendor accepts.
        longest_host, longest_name, longest_value: Characters that the vendor accepts.

    Raises:
        ConfigError: A header or a value that is not valid, is too long, or is there twice.
        UnsupportedError: A host that the vendor does not match, or more than the vendor accepts.
    """
    for one in headers:
        where = f"inject: {one.header!r} for {one.host!r}"
        if not is_host(one.host) or (one.host.startswith("*.") and not wildcards):
            raise UnsupportedError(f"{where}: {vendor} adds headers for host names only")
        if not _NAME.match(one.header):
            raise ConfigError(f"{where}: this is not a valid header name")
        if not _VALUE.match(one.secret):
            raise ConfigError(f"{where}: the value is not a line of printable ASCII")
        for what, text, longest in (
            ("host", one.host, longest_host),
            ("name", one.header, longest_name),
            ("value", one.secret, longest_value),
        ):
            if longest is not None and len(text) > longest:
                raise ConfigError(f"{where}: the {what} is longer than the {longest} characters of {vendor}")
    # Neither hosts nor names have cases: of two that are equal, one would be lost.
    pairs = Counter((one.host.lower(), one.header.lower()) for one in headers)
    for (host, name), times in pairs.items():
        if times > 1:
            raise ConfigError(f"inject: {name} for {host} is there {times} times")
    hosts = Counter(host for host, _ in pairs)
    if most_hosts is not None and len(hosts) > most_hosts:
        raise UnsupportedError(f"inject: {len(hosts)} hosts; {vendor} accepts {most_hosts} at most")
    if most is not None and len(headers) > most:
        raise UnsupportedError(f"inject: {len(headers)} headers; {vendor} accepts {most} at most")
    for host, times in hosts.items():
        if most_of_host is not None and times > most_of_host:
            raise UnsupportedError(
                f"inject: {times} headers for {host}; {vendor} accepts {most_of_host} at most"
            )


def refuse_unreachable(headers: Sequence[HeaderInjection], policy: NetworkPolicy | None) -> None:
    """Refuse headers for a host that the network policy keeps out of reach. Raises ConfigError."""
    if policy is None or policy.mode == "open":
        return
    for one in headers:
        if not _reaches(policy.hosts, one.host.lower()):
            raise ConfigError(f"inject: network={policy.mode} does not let the sandbox reach {one.host}")


def _reaches(allowed: Iterable[str], host: str) -> bool:
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
