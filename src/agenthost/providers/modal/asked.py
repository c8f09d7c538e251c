"""What a spec asks for, as Modal has it; what Modal cannot do is refused before any call."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from agenthost.errors import ConfigError, UnsupportedError
from agenthost.spec import DEFAULT_LIFETIME, HeaderInjection, SandboxSpec

LONGEST = 24 * 3600  # seconds that Modal lets a sandbox live
FLOOR_CPU = 1.0  # what the SDK needs at least: cores as a program sees them, half a physical one of Modal's
FLOOR_MEMORY = 1024  # MiB
MOST_HEADERS = 25  # that one sandbox may have added
DOMAINS = "outbound_domain_allowlist"
CLOUD = "cloud"
OPTIONS = (CLOUD, DOMAINS)

_REFERENCE = re.compile(r"\$\{([A-Za-z0-9._-]+)/([A-Za-z_][A-Za-z0-9_]*)\}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_HOST = re.compile(r"(\*\.)?([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?\.)+[a-zA-Z0-9-]+\Z")


def check_spec(spec: SandboxSpec) -> None:
    """Refuse what cannot be made.

    Raises:
        ConfigError: It makes no sense.
        UnsupportedError: Modal cannot do it, or not exactly.
    """
    refuse_unknown(spec.provider_options)
    if (spec.max_lifetime or DEFAULT_LIFETIME) > LONGEST:
        raise UnsupportedError(
            f"max_lifetime={spec.max_lifetime:g}: Modal ends a sandbox after {LONGEST} s (24 h) at the latest"
        )
    if spec.disk_mib is not None:
        raise UnsupportedError(f"disk_mib={spec.disk_mib}: Modal's sandboxes have no size of disk to ask for")
    network = spec.network.mode if spec.network is not None else "open"
    if network == "allow":
        raise UnsupportedError(
            "network=allow: Modal's list of domains looks at the name in TLS alone, on port 443, and leaves "
            "DNS open: it is not enforced exactly. Use NetworkPolicy.none(), with which an agent still "
            f"reaches its model; or take the list for what it is: provider_options={{{DOMAINS!r}: [...]}}"
        )
    domains = spec.provider_options.get(DOMAINS)
    if domains is not None and network == "none":
        raise ConfigError(f"provider_options[{DOMAINS!r}] is for a sandbox that has a network")
    if spec.inject and (network != "open" or domains is not None):
        raise UnsupportedError(
            "inject: Modal adds headers only in a sandbox with an open network, without a list of domains"
        )


def refuse_unknown(options: Mapping[str, object]) -> None:
    """Refuse provider options that are not known, or of another form. Raises ConfigError."""
    for key, value in options.items():
        if key == CLOUD:
            if not isinstance(value, str) or not value:
                raise ConfigError(f"provider_options[{CLOUD!r}] is {value!r}; it must be the name of a cloud")
        elif key == DOMAINS:
            domains_of(options)
        else:
            raise ConfigError(f"provider_options has {key!r}; the modal provider knows: {', '.join(OPTIONS)}")


def domains_of(options: Mapping[str, object]) -> list[str] | None:
    """Return the domains that a sandbox may reach, None for all. Raises ConfigError."""
    value = options.get(DOMAINS)
    if value is None:
        return None
    domains = cast("Sequence[object]", value) if isinstance(value, list | tuple) else [None]
    found = [one for one in domains if isinstance(one, str) and (one == "*" or _HOST.match(one))]
    if len(found) != len(domains):
        raise ConfigError(f"provider_options[{DOMAINS!r}] is {value!r}; it must be a list of domains")
    return found


def timeout_of(spec: SandboxSpec) -> int:
    """Return the lifetime as Modal takes it: whole seconds."""
    return min(LONGEST, math.ceil(spec.max_lifetime or DEFAULT_LIFETIME))


def cpu_of(spec: SandboxSpec) -> float:
    """Return the physical cores to ask for: one is two cores as programs see them."""
    return max(spec.cpu or FLOOR_CPU, 0.25) / 2


def memory_of(spec: SandboxSpec) -> int:
    """Return the MiB to ask for."""
    return spec.memory_mib or FLOOR_MEMORY


@dataclass(frozen=True, slots=True)
class Replacement:
    """A header that Modal adds.

    Attributes:
        secret: The name under which Modal keeps the secret.
        template: The value in Modal's words; ``$KEY`` stands for one of the secret's.
    """

    domain: str
    header: str
    secret: str
    template: str


def replacements_of(headers: Sequence[HeaderInjection]) -> list[Replacement]:
    """Return headers as Modal has them. No error holds what was given as a secret.

    Raises:
        ConfigError: A value instead of the name of a secret, or a header or host that is none.
        UnsupportedError: More than Modal takes.
    """
    if len(headers) > MOST_HEADERS:
        raise UnsupportedError(f"inject: Modal adds at most {MOST_HEADERS} headers, and not {len(headers)}")
    return [_replacement(one) for one in headers]


def _replacement(one: HeaderInjection) -> Replacement:
    where = f"inject: the header {one.header!r} for {one.host!r}"
    if not _HEADER.match(one.header):
        raise ConfigError(f"{where}: that is no name of a header")
    if not _HOST.match(one.host):
        raise ConfigError(f"{where}: Modal takes a domain, with *. before it or without")
    found = _REFERENCE.findall(one.secret)
    names = {name for name, _ in found}
    if len(names) != 1:
        raise ConfigError(
            f"{where}: Modal adds what one of its own secrets holds and takes no value. Keep it at Modal "
            "(modal secret create NAME KEY=...), and give '${NAME/KEY}' in its place"
        )
    parts = _REFERENCE.split(one.secret)  # text, name, key, text, name, key, text
    template = "".join(
        part.replace("$", "$$") if index % 3 == 0 else f"${part}"
        for index, part in enumerate(parts)
        if index % 3 != 1
    )
    if any(text[:1].isalnum() or text[:1] == "_" for text in parts[3::3]):
        raise ConfigError(
            f"{where}: a letter, digit or _ behind '${{NAME/KEY}}' would be taken for the key's"
        )
    if any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in template):
        raise ConfigError(f"{where}: its value has control characters")
    return Replacement(one.host, one.header, names.pop(), template)
