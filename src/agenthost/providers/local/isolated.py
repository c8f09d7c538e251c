"""Start a sandbox in bubblewrap."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from agenthost.errors import ConfigError, IsolationUnavailableError
from agenthost.providers.local import bwrap
from agenthost.providers.local.backend import LocalBackend
from agenthost.providers.local.engine import Engine, Start, launch, name_of
from agenthost.providers.local.etc import find_etc
from agenthost.providers.local.interpreter import PACKAGES, Interpreter, find_interpreter, find_sites
from agenthost.providers.local.limits import LimitPlan, default_limits, plan_limits, warn_of_missing
from agenthost.providers.local.linked_packages import stores_of
from agenthost.providers.local.remedies import install_hint
from agenthost.providers.local.resources import describe_resources
from agenthost.providers.local.seccomp import build_filter
from agenthost.sandbox import Boot
from agenthost.spec import SandboxSpec
from agenthost.threads import in_thread

_TMP_MIB, _SHM_MIB = 1024, 256
# bubblewrap's outer process.
_OUTSIDE = 1


@dataclass(frozen=True, slots=True)
class Host:
    """What of this machine goes into a sandbox; found once per provider.

    Attributes:
        bwrap: Absolute path of bubblewrap.
        drop: This process is root, so each sandbox runs as a user id of its own.
        stores: What links in the sites lead to.
        root: The directory below which /etc is looked at.
    """

    bwrap: str
    drop: bool
    interpreter: Interpreter
    sites: tuple[str, ...]
    stores: tuple[str, ...]
    seccomp: bytes = field(repr=False)
    root: str = "/"


def find_host(bwrap_path: str | None = None, site: str | None = None) -> Host:
    """Return what is needed to isolate on this machine; ``site`` as of LocalProvider.

    Raises:
        ConfigError: ``site`` is not a directory, or packages are links to where no sandbox can see them.
        IsolationUnavailableError: It is no Linux machine, or bubblewrap is not installed.
    """
    if not sys.platform.startswith("linux"):
        raise IsolationUnavailableError(
            f"the local sandbox needs Linux namespaces, and this is {sys.platform}: "
            "run this program on Linux, in a virtual machine for instance"
        )
    found = shutil.which(bwrap_path or "bwrap")
    if found is None:
        raise IsolationUnavailableError(
            f"bubblewrap ({bwrap_path or 'bwrap'}) is not installed, so nothing can be isolated. "
            f"Install it: {install_hint()}"
        )
    drop = os.geteuid() == 0
    sites = find_sites(site)
    stores = stores_of(sites, PACKAGES)
    if drop:
        _check_readable((*sites, *stores))
    return Host(os.path.realpath(found), drop, find_interpreter(), sites, stores, build_filter())


def _check_readable(sites: Sequence[str]) -> None:
    """Refuse packages that an unprivileged user cannot read; where their directory lies does not matter."""
    for path in (*sites, *(os.path.join(site, "claude_agent_sdk") for site in sites)):
        if os.path.isdir(path) and os.stat(path).st_mode & 0o005 != 0o005:
            raise ConfigError(
                f"{path} is closed to other users, and a sandbox of root runs as another user: "
                f"chmod -R o+rX {path}"
            )


def network_of(spec: SandboxSpec) -> str:
    """Return the network mode; none at all is the default here."""
    return "none" if spec.network is None else spec.network.mode


async def launch_isolated(
    engine: Engine,
    host: Host,
    spec: SandboxSpec,
    boot: Boot,
    program: Sequence[str],
    *,
    kind: str = "sandbox",
    account: bwrap.Account = bwrap.AGENT,
) -> LocalBackend:
    """Make a sandbox whose first program is ``program``. It finds the listening socket at LISTEN_FD."""
    etc = await in_thread(partial(find_etc, host.root))
    defaults = default_limits(spec, engine.directory())
    limits = plan_limits(spec.limits, name_of(spec), defaults=defaults, outside=_OUTSIDE, own_uid=host.drop)
    warn_of_missing(defaults, limits.caps)
    workdir = spec.workdir or bwrap.WORKDIR_INSIDE
    # Files in memory count as memory, and no process that is killed frees them: together they are less.
    memory = limits.caps.memory_mib
    tmp_mib = spec.provider_options.get("tmp_mib", _TMP_MIB if memory is None else _part(_TMP_MIB, memory, 2))
    shm_mib = _SHM_MIB if memory is None else _part(_SHM_MIB, memory, 8)
    assert isinstance(tmp_mib, int)
    profile = bwrap.Profile(
        bwrap=host.bwrap,
        directory=os.path.join(engine.directory(), name_of(spec)),
        staged=host.drop,
        network=network_of(spec) == "open",
        workdir=workdir,
        interpreter=host.interpreter,
        sites=host.sites,
        stores=host.stores,
        mounts=spec.mounts,
        tmp_bytes=tmp_mib * 1024 * 1024,
        shm_bytes=shm_mib * 1024 * 1024,
        etc=etc,
        seccomp=host.seccomp,
        account=account,
    )
    built = bwrap.build(profile)
    start = Start(
        argv=[*built.argv, *program],
        env={},
        cwd="/",
        data=built.data,
        stage=built.stage,
        stage_at=built.stage_at,
        tree="namespace",
    )
    entry = engine.prepare(spec, boot, drop=host.drop)
    resources = _resources(spec, entry.uid, limits, tmp_mib)
    return await launch(
        engine, entry, spec, start, kind=kind, isolation="namespaces", resources=resources, limits=limits
    )


def _part(size: int, memory: int, divisor: int) -> int:
    return max(1, min(size, memory // divisor))


def _resources(spec: SandboxSpec, uid: int | None, limits: LimitPlan, tmp_mib: int) -> dict[str, str]:
    network = network_of(spec)
    described = describe_resources(
        limits,
        uid=os.geteuid() if uid is None else uid,
        seccomp=True,
        network=network,
    )
    namespaces = "user, pid, mount, ipc, uts, cgroup" + ("" if network == "open" else ", network")
    return {"namespaces": namespaces, **described, "tmp": f"{tmp_mib} MiB"}
