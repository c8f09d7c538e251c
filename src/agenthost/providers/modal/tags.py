"""What we keep of a sandbox in its tags: Modal tells a sandbox's tags, and little else of it."""

from __future__ import annotations

from collections.abc import Mapping

from agenthost.sandbox import Isolation

NAME = "agenthost-name"
WORKDIR = "agenthost-workdir"
RUNTIME = "agenthost-runtime"
NETWORK = "agenthost-network"
CPU = "agenthost-cpu"  # in physical cores, as Modal counts
MEMORY = "agenthost-memory"  # MiB
IMAGE = "agenthost-image"

_ISOLATIONS: Mapping[str, Isolation] = {"gvisor": "gvisor", "vm": "microvm"}


def isolation_of(runtime: str) -> Isolation:
    """Return the mechanism behind a runtime of Modal's."""
    return _ISOLATIONS[runtime]


def isolation(labels: Mapping[str, str]) -> Isolation:
    """Return what keeps a sandbox apart."""
    return isolation_of(labels.get(RUNTIME, "gvisor"))


def resources(labels: Mapping[str, str]) -> dict[str, str]:
    """Return what a sandbox was given, in words."""
    cpu = float(labels.get(CPU, 0))
    return {
        "cpu": f"{cpu:g} physical cores ({2 * cpu:g} vCPU) at least",
        "memory": f"{labels.get(MEMORY, '0')} MiB at least",
        "network": labels.get(NETWORK, "open"),
        "runtime": labels.get(RUNTIME, "gvisor"),
        "image": labels.get(IMAGE, ""),
        "uid": "0",
    }
