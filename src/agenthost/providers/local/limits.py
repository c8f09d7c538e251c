"""Hard caps by control groups: exactly, or not at all."""

from __future__ import annotations

import os
from dataclasses import dataclass

from agenthost.errors import UnsupportedError
from agenthost.spec import ResourceLimits

_MIB = 1024 * 1024
_PERIOD_US = 100_000
_LEAST_QUOTA_US = 1_000
Group = tuple[str, list[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class LimitPlan:
    """Control groups to be made, and how to tell it.

    Attributes:
        groups: Directories and the values to write, in order.
        mechanism: ``cgroup2``, ``cgroup1`` or ``none``.
    """

    groups: tuple[Group, ...]
    mechanism: str


@dataclass(frozen=True, slots=True)
class _Mount:
    point: str
    root: str
    kind: str
    options: frozenset[str]


def plan_limits(
    limits: ResourceLimits, name: str, *, outside: int = 0, proc: str = "/proc/self"
) -> LimitPlan:
    """Return how these caps are enforced on this machine. Makes nothing.

    Args:
        limits: What was asked for.
        name: The sandbox's name.
        outside: Processes that must be in the group but are not in the sandbox.
        proc: Where ``mountinfo`` and ``cgroup`` of this process are.

    Raises:
        UnsupportedError: One of them cannot be enforced exactly.
    """
    if limits.disk_mib is not None:
        raise UnsupportedError(
            "a disk cap is not possible for a local sandbox: a plain directory has no quota"
        )
    if limits.cpu is not None and limits.cpu * _PERIOD_US < _LEAST_QUOTA_US:
        raise UnsupportedError(f"a processor cap of {limits.cpu} is below the kernel's least, 0.01 of a core")
    wanted = {
        controller
        for controller, value in (("memory", limits.memory_mib), ("cpu", limits.cpu), ("pids", limits.pids))
        if value is not None
    }
    if not wanted:
        return LimitPlan((), "none")
    mounts = _mounts(proc)
    own = _own_groups(proc)
    unified = _unified_group(mounts, own, wanted)
    if unified is not None:
        values = _unified_values(limits, outside)
        return LimitPlan(((f"{unified}/agenthost-{name}", values),), "cgroup2")
    groups: list[Group] = []
    for controller in sorted(wanted):
        parent = _legacy_group(mounts, own, controller)
        if parent is None:
            raise UnsupportedError(
                f"a {controller} cap needs a control group that this process may make, and there is none: "
                "neither a delegated cgroup v2 subtree with that controller nor a writable cgroup v1 one. "
                "Run under 'systemd-run --user --scope -p Delegate=yes', as root, or without this cap."
            )
        groups.append((f"{parent}/agenthost-{name}", _legacy_values(limits, controller, parent, outside)))
    return LimitPlan(tuple(groups), "cgroup1")


def supported_limits() -> frozenset[str]:
    """Return the names of the ResourceLimits fields that this machine enforces."""
    trials = (
        ("memory_mib", ResourceLimits(memory_mib=64)),
        ("cpu", ResourceLimits(cpu=1.0)),
        ("pids", ResourceLimits(pids=64)),
    )
    found: set[str] = set()
    for name, limits in trials:
        try:
            plan_limits(limits, "trial")
        except UnsupportedError:
            continue
        found.add(name)
    return frozenset(found)


def _unified_values(limits: ResourceLimits, outside: int) -> list[tuple[str, str]]:
    values: list[tuple[str, str]] = []
    if limits.memory_mib is not None:
        values += [("memory.max", str(limits.memory_mib * _MIB)), ("memory.swap.max", "0")]
    if limits.cpu is not None:
        values.append(("cpu.max", f"{round(limits.cpu * _PERIOD_US)} {_PERIOD_US}"))
    if limits.pids is not None:
        values.append(("pids.max", str(limits.pids + outside)))
    return values


def _legacy_values(
    limits: ResourceLimits, controller: str, parent: str, outside: int
) -> list[tuple[str, str]]:
    if controller == "memory" and limits.memory_mib is not None:
        amount = str(limits.memory_mib * _MIB)
        values = [("memory.limit_in_bytes", amount)]
        if os.path.exists(f"{parent}/memory.memsw.limit_in_bytes"):
            values.append(("memory.memsw.limit_in_bytes", amount))
        elif os.path.exists(f"{parent}/memory.swappiness"):
            values.append(("memory.swappiness", "0"))
        return values
    if controller == "cpu" and limits.cpu is not None:
        return [
            ("cpu.cfs_period_us", str(_PERIOD_US)),
            ("cpu.cfs_quota_us", str(round(limits.cpu * _PERIOD_US))),
        ]
    return [("pids.max", str((limits.pids or 0) + outside))]


def _unified_group(mounts: list[_Mount], own: dict[str, str], wanted: set[str]) -> str | None:
    """Return the nearest group above us where we may make one with these controllers."""
    for mount in mounts:
        path = _below(mount, own.get("")) if mount.kind == "cgroup2" else None
        while path is not None:
            enabled = set(_words(f"{path}/cgroup.subtree_control"))
            writable = os.access(path, os.W_OK) and os.access(f"{path}/cgroup.procs", os.W_OK)
            if wanted <= enabled and writable:
                return path
            path = os.path.dirname(path) if path != mount.point else None
    return None


def _legacy_group(mounts: list[_Mount], own: dict[str, str], controller: str) -> str | None:
    for mount in mounts:
        if mount.kind != "cgroup" or controller not in mount.options:
            continue
        path = _below(mount, own.get(controller))
        if path is not None and os.access(path, os.W_OK) and os.access(f"{path}/cgroup.procs", os.W_OK):
            return path
    return None


def _below(mount: _Mount, group: str | None) -> str | None:
    """Return where a group of ours is, given that a container may show only a part of the tree."""
    if group is None:
        return None
    root = mount.root.rstrip("/")
    if group == mount.root or group.startswith(root + "/"):
        path = mount.point + group[len(root) :].rstrip("/")
        return path if os.path.isdir(path) else None
    return None


def _words(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []


def _mounts(proc: str) -> list[_Mount]:
    found: list[_Mount] = []
    with open(f"{proc}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            fields, rest = left.split(), right.split()
            if rest[0] in ("cgroup", "cgroup2"):
                found.append(_Mount(fields[4], fields[3], rest[0], frozenset(rest[2].split(","))))
    return found


def _own_groups(proc: str) -> dict[str, str]:
    """Return our group by controller; the empty name is cgroup v2."""
    groups: dict[str, str] = {}
    with open(f"{proc}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                groups[controller] = path
    return groups
