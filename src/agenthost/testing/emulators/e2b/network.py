"""What E2B's control plane refuses of a sandbox's network."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, cast

from agenthost.testing.emulators.base.rest import Refusal

_EVERYTHING = "0.0.0.0/0"
_MOST_HOSTS, _HOST_LONGEST = 10, 128
_MOST_HEADERS, _NAME_LONGEST, _VALUE_LONGEST = 20, 64, 2048
_HOST = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}(\.[a-z0-9_][a-z0-9_-]{0,62})*[._]?\Z", re.IGNORECASE)
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")


def check_network(network: Mapping[str, Any], *, header_rules: bool) -> None:
    """Refuse a network that E2B does not take.

    Args:
        network: The part of a request that is about it.
        header_rules: Whether the team may have headers added.

    Raises:
        Refusal: With what E2B says, as far as that is known.
    """
    denied: list[str] = network.get("denyOut") or []
    for one in denied:
        if not _is_address(one):
            raise Refusal(400, f"invalid denied CIDR {one}")
    allowed: list[str] = network.get("allowOut") or []
    if not all(_is_address(one) for one in allowed) and _EVERYTHING not in denied:
        raise Refusal(400, "When specifying allowed domains, you must include '0.0.0.0/0' in deny out")
    if (rules := network.get("rules")) is not None:
        if not header_rules:
            raise Refusal(400, "Network transform rules are not available for your team.")
        _check_rules(rules)


def _check_rules(rules: Mapping[str, list[dict[str, Any]]]) -> None:
    if len(rules) > _MOST_HOSTS:
        raise Refusal(400, f"Network rules can have at most {_MOST_HOSTS} domains.")
    for host, transforms in rules.items():
        if len(host) > _HOST_LONGEST:
            raise Refusal(400, f"Rule domain {host!r} is longer than {_HOST_LONGEST} characters.")
        if not _HOST.match(host) or _is_address(host):
            raise Refusal(400, f"Rule domain {host!r} is not a valid domain name.")
        if len(transforms) > 1:
            raise Refusal(400, f"Domain {host!r} has more than one transform rule.")
        for transform in transforms:
            change: Mapping[str, Any] = transform.get("transform") or {}
            _check_headers(host, change.get("headers") or {})


def _check_headers(host: str, headers: Mapping[str, str]) -> None:
    if len(headers) > _MOST_HEADERS:
        raise Refusal(400, f"Domain {host!r} has more than {_MOST_HEADERS} headers.")
    for name, value in headers.items():
        if not _HEADER.match(name) or len(name) > _NAME_LONGEST:
            raise Refusal(400, f"Header name {name!r} of domain {host!r} is not valid.")
        if len(value) > _VALUE_LONGEST or "\r" in value or "\n" in value:
            # A server may quote what was sent to it.
            raise Refusal(400, f"Value {value!r} of header {name!r} of domain {host!r} is not valid.")


def _is_address(text: object) -> bool:
    try:
        ipaddress.ip_network(cast("str", text), strict=False)
    except ValueError:
        return False
    return True
