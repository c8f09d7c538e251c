"""A sandbox's container, as an engine is told to make it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from agenthost.errors import ConfigError, UnsupportedError
from agenthost.providers.docker import labels, paths
from agenthost.spec import ResourceLimits, SandboxSpec

PIDS = 4096  # where nothing is said: a fork bomb stops there
LIMITS = frozenset({"memory_mib", "cpu", "pids"})
_MIB = 1024 * 1024
_LEAST_MEMORY = 6  # MiB; an engine refuses less


def network_of(spec: SandboxSpec) -> str:
    """Return the network mode; none at all is the default here."""
    return "none" if spec.network is None else spec.network.mode


def check_container(spec: SandboxSpec, *, here: bool) -> None:
    """Check what can be checked without asking the engine; ``here``: it is on this machine.

    Raises:
        ConfigError: Paths that make no sense.
        UnsupportedError: What a container engine cannot do.
    """
    if network_of(spec) == "allow":
        raise UnsupportedError(
            "network=allow(...): the docker provider gives no network or all of it; "
            "use NetworkPolicy.none() or NetworkPolicy.open()"
        )
    if spec.region is not None:
        raise UnsupportedError(f"region={spec.region!r}: the docker provider has no such thing")
    if spec.inject:
        raise UnsupportedError("inject: the docker provider adds no headers; use credentials='host'")
    if spec.disk_mib is not None:
        raise UnsupportedError("disk_mib: a container engine does not say how much room a sandbox has")
    _check_limits(spec.limits)
    _check_target("workdir", spec.workdir or paths.WORKDIR)
    seen = {spec.workdir or paths.WORKDIR}
    for mount in spec.mounts:
        _check_target("mount target", mount.target)
        if mount.target in seen:
            raise ConfigError(f"two things are to be mounted at {mount.target}")
        seen.add(mount.target)
        if not os.path.isabs(mount.source) or (here and not os.path.exists(mount.source)):
            raise ConfigError(f"mount source {mount.source!r} is no absolute path of something that exists")


def _check_limits(limits: ResourceLimits) -> None:
    if limits.disk_mib is not None:
        raise UnsupportedError("limits.disk_mib: container engines enforce it on some file systems only")
    if limits.memory_mib is not None and limits.memory_mib < _LEAST_MEMORY:
        raise ConfigError(
            f"limits.memory_mib is {limits.memory_mib}; an engine takes {_LEAST_MEMORY} or more"
        )
    if limits.cpu is not None and limits.cpu < 0.01:
        raise ConfigError(f"limits.cpu is {limits.cpu}; an engine takes 0.01 or more")
    if limits.pids is not None and limits.pids < 1:
        raise ConfigError(f"limits.pids is {limits.pids}; it must be above 0")


def _check_target(what: str, path: str) -> None:
    if not path.startswith("/") or os.path.normpath(path) != path or path.startswith("//") or "\0" in path:
        raise ConfigError(f"{what} {path!r} is not a plain absolute path")
    taken = paths.find_conflict(path)
    if taken is not None:
        raise ConfigError(f"{what} {path} is taken: {taken} belongs to the sandbox itself")


def check_engine(spec: SandboxSpec, facts: Mapping[str, object]) -> None:
    """Check what depends on the engine's machine.

    Raises:
        UnsupportedError: It has less than is asked for, or cannot enforce a cap.
    """
    cores, memory = int(str(facts["NCPU"])), int(str(facts["MemTotal"])) // _MIB
    if spec.cpu is not None and spec.cpu > cores:
        raise UnsupportedError(f"cpu={spec.cpu}: the engine's machine has {cores} cores")
    if spec.memory_mib is not None and spec.memory_mib > memory:
        raise UnsupportedError(f"memory_mib={spec.memory_mib}: the engine's machine has {memory} MiB")
    limits = spec.limits
    for name, wanted, able in (
        ("memory_mib", limits.memory_mib, ("MemoryLimit", "SwapLimit")),
        ("cpu", limits.cpu, ("CpuCfsPeriod", "CpuCfsQuota")),
        ("pids", limits.pids, ("PidsLimit",)),
    ):
        if wanted is not None and not all(facts.get(key) for key in able):
            raise UnsupportedError(f"limits.{name}: the engine's machine has no control group for it")
    if limits.cpu is not None and limits.cpu > cores:
        raise UnsupportedError(f"limits.cpu={limits.cpu}: the engine's machine has {cores} cores")


def container_config(
    spec: SandboxSpec, image: str, argv: Sequence[str], own: Mapping[str, str], *, tmp_mib: int
) -> dict[str, object]:
    """Return the body of the request that makes a container; ``own`` are its labels beside the spec's."""
    limits = spec.limits
    host: dict[str, object] = {
        # Its end takes it away, and its volumes: nothing is left when no host is there to clean up.
        "AutoRemove": True,
        "NetworkMode": "bridge" if network_of(spec) == "open" else "none",
        "ReadonlyRootfs": True,
        # The guest is root, apart from the agent. It can become the agent's user, and take these capabilities
        # away from all that it starts; nothing else.
        "CapDrop": ["ALL"],
        "CapAdd": ["SETUID", "SETGID", "SETPCAP"],
        "SecurityOpt": ["no-new-privileges"],
        "IpcMode": "private",
        "PidsLimit": PIDS if limits.pids is None else limits.pids,
        # No init of the engine's: the guest is the first process, which adopts and collects orphans, and
        # which no process inside can kill or stop. So its timer holds.
        "Init": False,
        "LogConfig": {"Type": "none"},
        "Tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={tmp_mib}m"},
        "Mounts": _mounts(spec),
    }
    if limits.memory_mib is not None:
        host["Memory"] = host["MemorySwap"] = limits.memory_mib * _MIB
    if limits.cpu is not None:
        host["NanoCpus"] = round(limits.cpu * 1e9)
    workdir = spec.workdir or paths.WORKDIR
    return {
        "Image": image,
        "Hostname": spec.name,
        "User": paths.GUEST,
        "WorkingDir": workdir,
        # Not the spec's variables: whoever may ask the engine sees these. They travel in a file.
        "Env": [f"HOME={paths.HOME}", "USER=agent", "LOGNAME=agent", "LANG=C.UTF-8"],
        "Entrypoint": [argv[0]],
        "Cmd": list(argv[1:]),
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {**labels.of_spec(spec.labels), **own},
        "HostConfig": host,
    }


def _mounts(spec: SandboxSpec) -> list[dict[str, object]]:
    own = {labels.PROVIDER: "docker", labels.NAME: spec.name or ""}
    found: list[dict[str, object]] = [
        # Without a name of its own a volume goes with its container.
        {"Type": "volume", "Target": target, "VolumeOptions": {"Labels": own}}
        for target in (spec.workdir or paths.WORKDIR, paths.HOME, paths.BOOT)
    ]
    for mount in spec.mounts:
        bind: dict[str, object] = {"Type": "bind", "Source": mount.source, "Target": mount.target}
        # What is mounted below the source would be writable.
        options = {"NonRecursive": True, "Propagation": "rprivate"}
        found.append({**bind, "ReadOnly": True, "BindOptions": options})
    return found
