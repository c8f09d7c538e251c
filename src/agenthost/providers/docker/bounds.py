"""What bounds a container: the caps of its spec, else defaults where the engine can enforce them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from agenthost.errors import ConfigError, UnsupportedError
from agenthost.spec import ResourceLimits, SandboxSpec

LIMITS = frozenset({"memory_mib", "cpu", "cpu_weight", "pids", "core_mib"})

_log = logging.getLogger("agenthost.docker")

_MIB = 1024 * 1024
_MEMORY_MIB = 4096  # or half of the machine's
_PIDS = 4096  # a fork bomb stops there
_WEIGHT, _SHARES = 100, 1024  # an engine's own default, in our words and in the engine's
_LEAST_MEMORY = 6  # MiB; an engine refuses less
_SHM_MIB = 64  # an engine's own default
# When memory runs out, the kernel kills sandboxes before the programs of the machine, which have 0. What a
# guest starts has more (agenthost.guest.oom).
_OOM_SCORE_ADJ = 500
# Which of the engine's facts must be true for a field of ResourceLimits.
_NEEDS = {
    "memory_mib": ("MemoryLimit", "SwapLimit"),
    "cpu": ("CpuCfsPeriod", "CpuCfsQuota"),
    "cpu_weight": ("CPUShares",),
    "pids": ("PidsLimit",),
}
_warned: set[str] = set()


def check_limits(limits: ResourceLimits) -> None:
    """Check caps without asking the engine.

    Raises:
        ConfigError: An engine takes no number so small.
        UnsupportedError: No engine enforces it.
    """
    for name in ("disk_mib", "inodes"):
        if getattr(limits, name) is not None:
            raise UnsupportedError(f"limits.{name}: container engines enforce it on some file systems only")
    if limits.memory_mib is not None and limits.memory_mib < _LEAST_MEMORY:
        raise ConfigError(
            f"limits.memory_mib is {limits.memory_mib}; an engine takes {_LEAST_MEMORY} or more"
        )
    if limits.cpu is not None and limits.cpu < 0.01:
        raise ConfigError(f"limits.cpu is {limits.cpu}; an engine takes 0.01 or more")


def bounds_of(spec: SandboxSpec, facts: Mapping[str, object]) -> ResourceLimits:
    """Return what will bound a container: caps of the spec, and the defaults that the engine can enforce.

    Raises:
        UnsupportedError: The engine cannot enforce a cap of the spec.
    """
    machine = int(str(facts["MemTotal"])) // _MIB
    defaults = {
        "memory_mib": max(min(_MEMORY_MIB, machine // 2), spec.memory_mib or 0),
        "cpu_weight": _WEIGHT,
        "pids": _PIDS,
    }
    held: dict[str, Any] = {"core_mib": spec.limits.core_mib}
    missing: list[str] = []
    for name, needs in _NEEDS.items():
        wanted = getattr(spec.limits, name)
        able = all(facts.get(fact) for fact in needs)
        if wanted is not None and not able:
            raise UnsupportedError(f"limits.{name}: the engine's machine has no control group for it")
        if able:
            held[name] = defaults.get(name) if wanted is None else wanted
        elif name in defaults:
            missing.append(name)
    if new := [name for name in missing if name not in _warned]:
        _warned.update(new)
        _log.warning(
            "containers have no bound on %s: the engine's machine has no control group for it",
            ", ".join(new),
        )
    return ResourceLimits(**held)


def host_config(bounds: ResourceLimits, tmp_mib: int | None, default_tmp_mib: int) -> dict[str, object]:
    """Return these bounds as an engine's HostConfig has them.

    Args:
        bounds: What ``bounds_of`` returned.
        tmp_mib: The size of /tmp that was asked for.
        default_tmp_mib: Else it is this, or half of the memory: files in memory count, and no process that is
            killed frees them.
    """
    memory = bounds.memory_mib
    if tmp_mib is None:
        tmp_mib = default_tmp_mib if memory is None else max(1, min(default_tmp_mib, memory // 2))
    core = 0 if bounds.core_mib is None else bounds.core_mib * _MIB
    config: dict[str, object] = {
        "OomScoreAdj": _OOM_SCORE_ADJ,
        "Ulimits": [{"Name": "core", "Soft": core, "Hard": core}],
        "Tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={tmp_mib}m"},
        "ShmSize": max(1, _SHM_MIB if memory is None else min(_SHM_MIB, memory // 8)) * _MIB,
    }
    if memory is not None:
        config["Memory"] = config["MemorySwap"] = memory * _MIB
    if bounds.cpu is not None:
        config["NanoCpus"] = round(bounds.cpu * 1e9)
    if bounds.cpu_weight is not None:
        config["CpuShares"] = max(2, bounds.cpu_weight * _SHARES // _WEIGHT)
    if bounds.pids is not None:
        config["PidsLimit"] = bounds.pids
    return config


def describe(host: Mapping[str, Any]) -> dict[str, str]:
    """Return the bounds in an engine's HostConfig, in words, for ``info``."""

    def number(name: str) -> int:
        return int(str(host.get(name) or 0))

    limits: list[Mapping[str, Any]] = host.get("Ulimits") or []
    core = [one for one in limits if one.get("Name") == "core"]
    size = int(core[0]["Hard"]) // _MIB if core else -1
    return {
        "memory": f"{number('Memory') // _MIB} MiB" if number("Memory") else "unlimited",
        "cpu": f"{number('NanoCpus') / 1e9:g}" if number("NanoCpus") else "unlimited",
        "cpu_weight": str(round((number("CpuShares") or _SHARES) * _WEIGHT / _SHARES)),
        "pids": str(number("PidsLimit")) if number("PidsLimit") > 0 else "unlimited",
        "disk": "unlimited",
        "inodes": "unlimited",
        "core": "none" if size == 0 else "unlimited" if size < 0 else f"{size} MiB",
    }
