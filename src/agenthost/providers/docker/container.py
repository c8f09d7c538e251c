"""A sandbox's container, as an engine is told to make it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from agenthost.errors import ConfigError, UnsupportedError
from agenthost.providers.docker import labels, paths
from agenthost.providers.docker.bounds import bounds_of, check_limits, host_config
from agenthost.spec import ResourceLimits, SandboxSpec

_MIB = 1024 * 1024


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
    check_limits(spec.limits)
    _check_target("workdir", spec.workdir or paths.WORKDIR)
    seen = {spec.workdir or paths.WORKDIR}
    for mount in spec.mounts:
        _check_target("mount target", mount.target)
        if mount.target in seen:
            raise ConfigError(f"two things are to be mounted at {mount.target}")
        seen.add(mount.target)
        if not os.path.isabs(mount.source) or (here and not os.path.exists(mount.source)):
            raise ConfigError(f"mount source {mount.source!r} is no absolute path of something that exists")


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
    bounds_of(spec, facts)
    if limits.cpu is not None and limits.cpu > cores:
        raise UnsupportedError(f"limits.cpu={limits.cpu}: the engine's machine has {cores} cores")


def container_config(
    spec: SandboxSpec,
    image: str,
    argv: Sequence[str],
    own: Mapping[str, str],
    *,
    bounds: ResourceLimits,
    tmp_mib: int | None,
) -> dict[str, object]:
    """Return the body of the request that makes a container.

    Args:
        spec: The sandbox.
        image: Its image.
        argv: The container's first program.
        own: Labels beside the spec's.
        bounds: What bounds it.
        tmp_mib: The size of /tmp, None for the default.
    """
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
        # No init of the engine's: the guest is the first process, which adopts and collects orphans, and
        # which no process inside can kill or stop. So its timer holds.
        "Init": False,
        "LogConfig": {"Type": "none"},
        "Mounts": _mounts(spec),
        **host_config(bounds, tmp_mib, paths.TMP_MIB),
    }
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
