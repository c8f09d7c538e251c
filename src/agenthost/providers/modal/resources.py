"""What ``info`` reports that a sandbox was given: kept as tags, since Modal reports little else of one."""

from __future__ import annotations

import re
from collections.abc import Mapping

from agenthost.providers.modal.network import network_shown
from agenthost.providers.modal.spec import arguments
from agenthost.sandbox import Isolation
from agenthost.spec import SandboxSpec

ISOLATIONS: Mapping[str, Isolation] = {"gvisor": "gvisor", "vm": "microvm"}  # by Modal's runtime
RUNTIME_LABEL = "agenthost-runtime"
_TAGS = (RUNTIME_LABEL, "agenthost-network", "agenthost-cpu", "agenthost-memory", "agenthost-image")


def given_labels(spec: SandboxSpec, runtime: str) -> dict[str, str]:
    """Return the labels of what a sandbox is given."""
    size = arguments(spec)
    values = (runtime, network_shown(spec), f"{size['cpu']:g}", str(size["memory"]), spec.image or "")
    return dict(zip(_TAGS, values, strict=True))


def info_resources(labels: Mapping[str, str]) -> tuple[Isolation, dict[str, str]]:
    """Return what isolates a sandbox and what it was given, from labels that may have been changed."""
    runtime, network, cpu, memory, image = (labels.get(tag, "?") for tag in _TAGS)
    vcpu = f"{2 * float(cpu):g}" if re.fullmatch(r"\d+(\.\d+)?", cpu) else "?"
    return ISOLATIONS.get(runtime, "gvisor"), {
        "cpu": f"{cpu} physical cores ({vcpu} vCPU) at least",
        "memory": f"{memory} MiB at least",
        "network": network,
        "runtime": runtime,
        "image": image,
        "uid": "0",
    }
