"""A SandboxSpec as Modal's client takes it; what Modal cannot do is refused before any call."""

from __future__ import annotations

import math
from typing import Any

from agenthost.adapter.checks import refuse_fields
from agenthost.adapter.record import LabelRule
from agenthost.errors import ConfigError
from agenthost.providers.modal.network import DOMAINS, check_network, network_options
from agenthost.spec import DEFAULT_LIFETIME, SandboxSpec

CREATING = 120.0  # seconds that Modal's ``create`` may take with an image that exists
CLOUD = "cloud"
OPTIONS = (CLOUD, DOMAINS)
# The client's rule for the tags of apps. Whether the server applies it to those of sandboxes is not known.
RULE = LabelRule(63)


def check_spec(spec: SandboxSpec) -> None:
    """Refuse what cannot be made.

    Raises:
        ConfigError: The spec makes no sense.
        UnsupportedError: Modal cannot do it, or not exactly.
    """
    cloud = spec.provider_options.get(CLOUD, "any")
    if not isinstance(cloud, str) or not cloud:
        raise ConfigError(f"provider_options[{CLOUD!r}] is {cloud!r}; it must be the name of a cloud")
    refuse_fields(spec, "modal", "disk_mib")
    check_network(spec)


def arguments(spec: SandboxSpec) -> dict[str, Any]:
    """Return keywords of Modal's ``create``: seconds, physical cores (two for programs each), MiB."""
    return {
        "name": spec.name,
        "timeout": math.ceil(spec.max_lifetime or DEFAULT_LIFETIME),
        # The SDK needs one core, as programs see them, and 1 GiB.
        "cpu": max(spec.cpu or 1.0, 0.25) / 2,
        "memory": spec.memory_mib or 1024,
        "region": spec.region,
        "cloud": spec.provider_options.get(CLOUD),
        **network_options(spec),
    }
