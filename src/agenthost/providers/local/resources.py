"""What a sandbox of this machine really has, in words."""

from __future__ import annotations

import os

from agenthost.providers.local.limits import LimitPlan


def describe_resources(limits: LimitPlan, *, uid: int, seccomp: bool, network: str) -> dict[str, str]:
    """Return what ``info`` tells: bounds as they are enforced, the user, the network."""
    caps = limits.caps
    return {
        "uid": str(uid),
        "seccomp": "on" if seccomp else "off",
        "network": network,
        "limits": limits.mechanism,
        "memory": _or_unlimited(caps.memory_mib, " MiB"),
        "cpu": f"{os.cpu_count()} shared" if caps.cpu is None else f"{caps.cpu} cores",
        "cpu_weight": _or_unlimited(caps.cpu_weight),
        "pids": _or_unlimited(caps.pids),
        "disk": _or_unlimited(caps.disk_mib, " MiB"),
        "inodes": _or_unlimited(caps.inodes),
        "core": "none" if caps.core_mib is None else f"{caps.core_mib} MiB",
    }


def _or_unlimited(value: int | None, unit: str = "") -> str:
    return "unlimited" if value is None else f"{value}{unit}"
