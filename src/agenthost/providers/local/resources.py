"""What a sandbox of this machine really has, in words."""

from __future__ import annotations

import os

from agenthost.spec import ResourceLimits


def describe_resources(
    caps: ResourceLimits, *, mechanism: str, uid: int, seccomp: bool, network: str
) -> dict[str, str]:
    """Return what ``info`` tells: caps as they are enforced by ``mechanism``, the user, the network."""
    return {
        "uid": str(uid),
        "seccomp": "on" if seccomp else "off",
        "network": network,
        "limits": mechanism,
        "memory": "unlimited" if caps.memory_mib is None else f"{caps.memory_mib} MiB",
        "cpu": f"{os.cpu_count()} shared" if caps.cpu is None else f"{caps.cpu} cores",
        "pids": "unlimited" if caps.pids is None else str(caps.pids),
        "disk": "unlimited",
    }
