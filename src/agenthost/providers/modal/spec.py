"""A SandboxSpec as Modal's client takes it; what Modal cannot do is refused before any call."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from agenthost.adapter.network import is_host
from agenthost.adapter.record import LabelRule
from agenthost.errors import ConfigError, UnsupportedError
from agenthost.sandbox import Isolation
from agenthost.spec import DEFAULT_LIFETIME, SandboxSpec

LONGEST = 24 * 3600  # seconds
FLOOR_CPU = 1.0  # what the SDK needs: cores as programs see them, half a physical core of Modal's
FLOOR_MEMORY = 1024  # MiB
DOMAINS, CLOUD = "outbound_domain_allowlist", "cloud"
# The client's rule for the tags of apps. Whether the server applies it to those of sandboxes is not known.
RULE = LabelRule(63)
ISOLATIONS: Mapping[str, Isolation] = {"gvisor": "gvisor", "vm": "microvm"}
# What was given, as tags: Modal reports a sandbox's tags, and little else.
_GIVEN = {name: f"agenthost-{name}" for name in ("runtime", "network", "cpu", "memory", "image")}


def check_spec(spec: SandboxSpec) -> None:
    """Refuse what cannot be made.

    Raises:
        ConfigError: The spec makes no sense.
        UnsupportedError: Modal cannot do it, or not exactly.
    """
    cloud = spec.provider_options.get(CLOUD, "any")
    if not isinstance(cloud, str) or not cloud:
        raise ConfigError(f"provider_options[{CLOUD!r}] is {cloud!r}; it must be the name of a cloud")
    if spec.disk_mib is not None:
        raise UnsupportedError(f"disk_mib={spec.disk_mib}: Modal gives its sandboxes no size of disk")
    domains, network = domains_of(spec), network_of(spec)
    if network == "allow":
        raise UnsupportedError(
            "network=allow: Modal's list of domains looks at the name in TLS alone, on port 443, and leaves "
            "DNS open: it is not enforced exactly. Use NetworkPolicy.none(), with which an agent still "
            f"reaches its model; or take the list for what it is: provider_options={{{DOMAINS!r}: [...]}}"
        )
    if domains is not None and network == "none":
        raise ConfigError(f"provider_options[{DOMAINS!r}] is for a sandbox that has a network")
    if spec.inject and (network != "open" or domains is not None):
        raise UnsupportedError(
            "inject: Modal adds headers only in a sandbox with an open network, without a list of domains"
        )


def domains_of(spec: SandboxSpec) -> list[str] | None:
    """Return the domains that a sandbox may reach, None for all. Raises ConfigError."""
    value = spec.provider_options.get(DOMAINS)
    if value is None:
        return None
    domains = cast("Sequence[object]", value) if isinstance(value, list | tuple) else [None]
    found = [one for one in domains if isinstance(one, str) and (one == "*" or is_host(one))]
    if len(found) != len(domains):
        raise ConfigError(f"provider_options[{DOMAINS!r}] is {value!r}; it must be a list of domains")
    return found


def network_of(spec: SandboxSpec) -> str:
    """Return the mode of the network."""
    return spec.network.mode if spec.network is not None else "open"


def arguments(spec: SandboxSpec) -> dict[str, Any]:
    """Return keywords of Modal's ``create``: seconds, physical cores (two for programs each), MiB."""
    options: dict[str, Any] = {
        "timeout": min(LONGEST, math.ceil(spec.max_lifetime or DEFAULT_LIFETIME)),
        "cpu": max(spec.cpu or FLOOR_CPU, 0.25) / 2,
        "memory": spec.memory_mib or FLOOR_MEMORY,
        "region": spec.region,
        "block_network": network_of(spec) == "none",
        "cloud": spec.provider_options.get(CLOUD),
    }
    if (domains := domains_of(spec)) is not None:
        options[DOMAINS] = domains
    return options


def given_labels(spec: SandboxSpec, runtime: str) -> dict[str, str]:
    """Return the labels of what a sandbox is given."""
    network = network_of(spec) if domains_of(spec) is None else "open, domains by their TLS name"
    options = arguments(spec)
    values = (runtime, network, f"{options['cpu']:g}", str(options["memory"]), spec.image or "")
    return dict(zip(_GIVEN.values(), values, strict=True))


def info_resources(labels: Mapping[str, str]) -> tuple[Isolation, dict[str, str]]:
    """Return what isolates a sandbox and what it was given, from labels that may have been changed."""
    runtime, network, cpu, memory, image = (labels.get(name, "?") for name in _GIVEN.values())
    vcpu = f"{2 * float(cpu):g}" if re.fullmatch(r"\d+(\.\d+)?", cpu) else "?"
    return ISOLATIONS.get(runtime, "gvisor"), {
        "cpu": f"{cpu} physical cores ({vcpu} vCPU) at least",
        "memory": f"{memory} MiB at least",
        "network": network,
        "runtime": runtime,
        "image": image,
        "uid": "0",
    }
