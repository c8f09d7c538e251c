"""What a local sandbox cannot do, refused before anything is made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence

from agenthost.errors import ConfigError, UnsupportedError
from agenthost.spec import Mount, SandboxSpec

_MIB = 1024 * 1024
# Nothing may be bound over these, nor around them.
_OURS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc", "/dev", "/sys")
_OURS_TOO = ("/opt/agenthost", "/var/lib/agenthost", "/home/agent")


def check_common(spec: SandboxSpec, *, provider: str, directory: str) -> None:
    """Check what is the same with and without isolation.

    Raises:
        UnsupportedError: This machine or provider cannot do it.
    """
    for field, value in (("image", spec.image), ("region", spec.region)):
        if value is not None:
            raise UnsupportedError(f"{field}={value!r}: the {provider} provider has no such thing")
    if spec.inject:
        raise UnsupportedError(f"inject: the {provider} provider adds no headers; use credentials='host'")
    cores = len(os.sched_getaffinity(0))
    if spec.cpu is not None and spec.cpu > cores:
        raise UnsupportedError(f"cpu={spec.cpu}: this machine has {cores} cores")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MIB
    if spec.memory_mib is not None and spec.memory_mib > memory:
        raise UnsupportedError(f"memory_mib={spec.memory_mib}: this machine has {memory} MiB")
    free = shutil.disk_usage(directory).free // _MIB
    if spec.disk_mib is not None and spec.disk_mib > free:
        raise UnsupportedError(f"disk_mib={spec.disk_mib}: {free} MiB are free at {directory}")


def check_options(options: Mapping[str, object], known: Sequence[str], *, provider: str) -> None:
    """Refuse unknown provider options, and values that are no whole number above 0."""
    for key, value in options.items():
        if key not in known:
            names = ", ".join(known) or "none"
            raise ConfigError(f"provider_options has {key!r}; the {provider} provider knows: {names}")
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise ConfigError(f"provider_options[{key!r}] is {value!r}; it must be a whole number above 0")


def check_inside_paths(workdir: str, mounts: Sequence[Mount]) -> None:
    """Check where things are to be bound.

    Raises:
        ConfigError: A path is not plain and absolute, is taken, or a mount's source does not exist.
    """
    _check_target("workdir", workdir)
    seen = {workdir}
    for mount in mounts:
        _check_target("mount target", mount.target)
        if mount.target in seen:
            raise ConfigError(f"two things are to be mounted at {mount.target}")
        seen.add(mount.target)
        if not os.path.isabs(mount.source) or not os.path.exists(mount.source):
            raise ConfigError(f"mount source {mount.source!r} is no absolute path of something that exists")


def _check_target(what: str, path: str) -> None:
    if not path.startswith("/") or os.path.normpath(path) != path or path.startswith("//") or "\0" in path:
        raise ConfigError(f"{what} {path!r} is not a plain absolute path")
    for taken in (*_OURS, *_OURS_TOO):
        if path == taken or path.startswith(taken + "/") or taken.startswith(path.rstrip("/") + "/"):
            raise ConfigError(f"{what} {path} is taken: {taken} belongs to the sandbox itself")
