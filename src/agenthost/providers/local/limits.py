"""Hard caps by control groups and by limits of processes: exactly, or not at all; and the defaults."""

from __future__ import annotations

import logging
import os
import resource
from dataclasses import dataclass, replace
from typing import Any

from agenthost.errors import UnsupportedError
from agenthost.spec import ResourceLimits, SandboxSpec

_log = logging.getLogger("agenthost.local")

_MIB = 1024 * 1024
_PERIOD_US = 100_000
_LEAST_QUOTA_US = 1_000
_DEFAULT_MEMORY_MIB = 4096  # or half of the machine's
_DEFAULT_PIDS = 4096
_DEFAULT_WEIGHT = 100  # the kernel's own; all of a sandbox together weighs as much as any other group
_SHARES = 1024  # what cgroup v1 calls a weight of 100
# 0 would be no file, but a program that the kernel pipes core files to on the host would run all the same.
# The kernel starts none for a limit of 1 (fs/coredump.c), and writes no file that small.
_NO_CORE = 1
Group = tuple[str, list[tuple[str, str]]]
# Fields of ResourceLimits by the controller of control groups that enforces them.
_CONTROLLERS = {"memory": ("memory_mib",), "cpu": ("cpu", "cpu_weight"), "pids": ("pids",)}


@dataclass(frozen=True, slots=True)
class LimitPlan:
    """What bounds a sandbox: control groups to be made, limits of its processes, and how to tell it.

    Attributes:
        groups: Directories and the values to write, in order.
        rlimits: Numbers of limits of processes, and their values.
        mechanism: ``cgroup2``, ``cgroup1``, ``rlimit`` (of processes alone) or ``none``.
        caps: What really holds, defaults included; None is no bound.
    """

    groups: tuple[Group, ...]
    rlimits: tuple[tuple[int, int], ...]
    mechanism: str
    caps: ResourceLimits


@dataclass(frozen=True, slots=True)
class _Mount:
    point: str
    root: str
    kind: str
    options: frozenset[str]


def default_limits(spec: SandboxSpec, directory: str) -> ResourceLimits:
    """Return what bounds a sandbox whose spec has no caps: never less than the spec wants at least.

    Args:
        spec: What is wanted.
        directory: Where its files will be: they may take half of what is free there.
    """
    there = os.statvfs(directory)
    disk = max(there.f_bavail * there.f_frsize // _MIB // 2, spec.disk_mib or 1)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MIB
    memory = max(min(_DEFAULT_MEMORY_MIB, machine // 2), spec.memory_mib or 0)
    return ResourceLimits(
        memory_mib=memory,
        pids=_DEFAULT_PIDS,
        cpu_weight=_DEFAULT_WEIGHT,
        disk_mib=disk,
        inodes=there.f_favail // 2 or None,  # 0 where the file system has no such number
    )


_NO_DEFAULTS = ResourceLimits()
_warned: set[str] = set()


def warn_of_missing(defaults: ResourceLimits, caps: ResourceLimits) -> None:
    """Log once per process which defaults this machine cannot enforce."""
    missing = [
        name
        for name in ("memory_mib", "pids", "cpu_weight")
        if getattr(defaults, name) is not None and getattr(caps, name) is None and name not in _warned
    ]
    if missing:
        _warned.update(missing)
        _log.warning(
            "local sandboxes have no bound here on %s: this process may make no control group for it. Run it "
            "under 'systemd-run --user --scope -p Delegate=yes', or as root",
            ", ".join(missing),
        )


def plan_limits(
    limits: ResourceLimits,
    name: str,
    *,
    defaults: ResourceLimits = _NO_DEFAULTS,
    outside: int = 0,
    own_uid: bool = False,
    own_files: bool = True,
    proc: str = "/proc/self",
) -> LimitPlan:
    """Return how these caps are enforced on this machine. Makes nothing.

    Args:
        limits: What was asked for.
        name: The sandbox's name.
        defaults: Bounds for what was not asked for, where they can be enforced.
        outside: Processes that must be in the group but are not in the sandbox.
        own_uid: The sandbox's user on this machine has no other processes.
        own_files: The sandbox's programs can write nowhere else.
        proc: Where ``mountinfo`` and ``cgroup`` of this process are.

    Raises:
        UnsupportedError: One that was asked for cannot be enforced exactly.
    """
    for field in ("disk_mib", "inodes"):
        if getattr(limits, field) is not None and not own_files:
            raise UnsupportedError(f"limits.{field}: programs that are not isolated write anywhere")
    if limits.cpu is not None and limits.cpu * _PERIOD_US < _LEAST_QUOTA_US:
        raise UnsupportedError(f"a processor cap of {limits.cpu} is below the kernel's least, 0.01 of a core")
    asked = _controllers_of(limits)
    # A cap of the processor comes with the weight; a weight alone is a default like the others.
    wanted = asked | _controllers_of(defaults)
    mounts, own = _mounts(proc), _own_groups(proc)
    core = _NO_CORE if limits.core_mib is None else limits.core_mib * _MIB
    rlimits = [(resource.RLIMIT_CORE, core)]
    caps = _merged(limits, defaults, wanted)
    for controllers in _from_most(asked, wanted):
        unified = _unified_group(mounts, own, controllers)
        if unified is not None:
            caps = _merged(limits, defaults, controllers)
            groups: list[Group] = [(f"{unified}/agenthost-{name}", _unified_values(caps, outside))]
            mechanism = "cgroup2"
            break
    else:
        groups, found = [], set[str]()
        for controller in sorted(wanted):
            parent = _legacy_group(mounts, own, controller)
            if parent is not None:
                found.add(controller)
                values = _legacy_values(caps, controller, parent, outside)
                groups.append((f"{parent}/agenthost-{name}", values))
        caps = _merged(limits, defaults, found)
        mechanism = "cgroup1" if groups else "none"
    if caps.pids is None and own_uid and (pids := limits.pids or defaults.pids):
        # The kernel counts the processes of this user.
        rlimits.append((resource.RLIMIT_NPROC, pids + outside))
        caps = replace(caps, pids=pids)
        mechanism = "rlimit" if mechanism == "none" else mechanism
    for controller in sorted(asked):
        if any(getattr(caps, field) != getattr(limits, field) for field in _asked_fields(limits, controller)):
            raise UnsupportedError(
                f"a {controller} cap needs a control group that this process may make, and there is none: "
                "neither a delegated cgroup v2 subtree with that controller nor a writable cgroup v1 one. "
                "Run under 'systemd-run --user --scope -p Delegate=yes', as root, or without this cap."
            )
    return LimitPlan(tuple(groups), tuple(rlimits), mechanism, caps)


def _asked_fields(limits: ResourceLimits, controller: str) -> list[str]:
    return [field for field in _CONTROLLERS[controller] if getattr(limits, field) is not None]


def _controllers_of(limits: ResourceLimits) -> set[str]:
    return {controller for controller in _CONTROLLERS if _asked_fields(limits, controller)}


def _merged(limits: ResourceLimits, defaults: ResourceLimits, controllers: set[str]) -> ResourceLimits:
    """Return the caps that these controllers enforce: what was asked for, else the default."""
    held: dict[str, Any] = {}
    for controller in controllers:
        for field in _CONTROLLERS[controller]:
            asked = getattr(limits, field)
            held[field] = getattr(defaults, field) if asked is None else asked
    for field in ("disk_mib", "inodes"):
        asked = getattr(limits, field)
        held[field] = getattr(defaults, field) if asked is None else asked
    return replace(ResourceLimits(core_mib=limits.core_mib), **held)


def _from_most(asked: set[str], wanted: set[str]) -> list[set[str]]:
    """Return the sets of controllers to be tried, each with what was asked for, the largest first."""
    found = [asked]
    for controller in ("memory", "pids", "cpu"):
        if controller in wanted - asked:
            found += [{*one, controller} for one in found]
    return sorted((one for one in found if one), key=len, reverse=True)


def supported_limits(*, own_uid: bool = False, own_files: bool = True) -> frozenset[str]:
    """Return the names of the ResourceLimits fields that this machine enforces; arguments as above."""
    trials = (
        ("memory_mib", ResourceLimits(memory_mib=64)),
        ("cpu", ResourceLimits(cpu=1.0)),
        ("cpu_weight", ResourceLimits(cpu_weight=100)),
        ("pids", ResourceLimits(pids=64)),
        ("core_mib", ResourceLimits(core_mib=1)),
        ("disk_mib", ResourceLimits(disk_mib=1)),
        ("inodes", ResourceLimits(inodes=1)),
    )
    found: set[str] = set()
    for name, limits in trials:
        try:
            plan_limits(limits, "trial", own_uid=own_uid, own_files=own_files)
        except UnsupportedError:
            continue
        found.add(name)
    return frozenset(found)


_SOCKET_SHARE = 8  # of the memory that a sandbox may have
SOCKET_MEMORY = "memory.kmem.tcp.limit_in_bytes"


def _unified_values(limits: ResourceLimits, outside: int) -> list[tuple[str, str]]:
    values: list[tuple[str, str]] = []
    if limits.memory_mib is not None:
        values += [("memory.max", str(limits.memory_mib * _MIB)), ("memory.swap.max", "0")]
    if limits.cpu is not None:
        values.append(("cpu.max", f"{round(limits.cpu * _PERIOD_US)} {_PERIOD_US}"))
    if limits.cpu_weight is not None:
        values.append(("cpu.weight", str(limits.cpu_weight)))
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
        if os.path.exists(f"{parent}/{SOCKET_MEMORY}"):
            # Else what waits in sockets is not counted at all; here it is beside the memory, not within.
            values.append((SOCKET_MEMORY, str(limits.memory_mib * _MIB // _SOCKET_SHARE)))
        return values
    if controller == "cpu":
        values = list[tuple[str, str]]()
        if limits.cpu is not None:
            values.append(("cpu.cfs_period_us", str(_PERIOD_US)))
            values.append(("cpu.cfs_quota_us", str(round(limits.cpu * _PERIOD_US))))
        if limits.cpu_weight is not None:
            values.append(("cpu.shares", str(max(2, limits.cpu_weight * _SHARES // _DEFAULT_WEIGHT))))
        return values
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
