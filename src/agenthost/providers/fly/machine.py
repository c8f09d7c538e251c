"""What is asked of Fly for one sandbox: the body of the call that makes a machine."""

from __future__ import annotations

import base64
import math
import time
import zlib
from collections.abc import Mapping
from importlib.resources import files as resources
from typing import Any

from agenthost.adapter.boot import guest_zipapp, http_archive, runner_zipapp
from agenthost.adapter.bootstrap import bootstrap_scripts
from agenthost.adapter.record import NONCE_LABEL
from agenthost.errors import ConfigError, UnsupportedError
from agenthost.spec import DEFAULT_LIFETIME, SandboxSpec

IMAGE = "docker.io/library/python:3.13-slim"  # Debian with Python and pip
KIND = "cpu_kind"
MOST_SUSPENDED = 2048  # MiB: Fly advises against suspending more
# By kind: the numbers of cores, and MiB of memory for each core. Source: superfly/docs 5c22c8c.
_SIZES = {"shared": ((1, 2, 4, 6, 8), 256, 2048), "performance": ((1, 2, 4, 8, 16), 2048, 8192)}
_STEP = 256  # MiB by which memory grows
_GRACE = 60  # seconds that the guest may take to end by itself, after the lifetime
_FIRST_PORT, _PORTS = 10_000, 20_000  # below the ports that a kernel gives to connections


def port_of(labels: Mapping[str, str]) -> int:
    """Return the port of a sandbox's guest: one that hardly any program of an agent wants."""
    return _FIRST_PORT + zlib.crc32(labels.get(NONCE_LABEL, "").encode()) % _PORTS


def size_of(spec: SandboxSpec) -> dict[str, Any]:
    """Return the smallest size at Fly that has what a spec asks for.

    Raises:
        ConfigError: There is no such kind of cores.
        UnsupportedError: There is no size as large as that.
    """
    kind = spec.provider_options.get(KIND, "shared")
    if not isinstance(kind, str) or kind not in _SIZES:
        raise ConfigError(f"provider_options[{KIND!r}] must be one of: {', '.join(_SIZES)}")
    numbers, least, most = _SIZES[kind]
    memory = spec.memory_mib or MOST_SUSPENDED
    for cpus in numbers:
        if cpus >= (spec.cpu or 1) and cpus * most >= memory:
            mib = max(cpus * least, math.ceil(memory / _STEP) * _STEP)
            return {"cpu_kind": kind, "cpus": cpus, "memory_mb": mib}
    raise UnsupportedError(
        f"cpu={spec.cpu!r}, memory_mib={spec.memory_mib!r}: a {kind} machine of Fly has at most "
        f"{numbers[-1]} cores and {numbers[-1] * most} MiB"
    )


def machine_files() -> dict[str, bytes]:
    """Return the files that a machine starts with, by name. They are the same for all, and hold no secret."""
    main = resources("agenthost.providers.fly").joinpath("main.sh").read_bytes()
    programs = {"guest.pyz": guest_zipapp(), "runner.pyz": runner_zipapp(), "http.pyz": http_archive()}
    return {**programs, **bootstrap_scripts(), "main.sh": main}


def machine_config(spec: SandboxSpec, labels: Mapping[str, str], directory: str) -> dict[str, Any]:
    """Return the configuration of a machine. Everyone who may use the app can read it.

    Args:
        spec: Complete, as ``Vendor.create`` gets it.
        labels: What is stored with the machine, encoded.
        directory: Of the guest.
    """
    end = str(math.ceil(time.time() + (spec.max_lifetime or DEFAULT_LIFETIME)) + _GRACE)
    files = {f"{directory}/{name}": base64.b64encode(data).decode() for name, data in machine_files().items()}
    service = {
        "protocol": "tcp",
        "internal_port": port_of(spec.labels),
        # The proxy sees requests alone: it would stop an agent that works on, and wake up a sandbox that was
        # paused.
        "autostop": "off",
        "autostart": False,
        "ports": [{"port": 443, "handlers": ["tls", "http"]}],
    }
    disk = {} if spec.disk_mib is None else {"rootfs": {"size_gb": math.ceil(spec.disk_mib / 1024)}}
    return {
        "image": spec.image or IMAGE,
        "guest": size_of(spec),
        **disk,
        "init": {"exec": ["/bin/sh", f"{directory}/main.sh", directory, end]},
        "files": [{"guest_path": path, "raw_value": data} for path, data in files.items()],
        "metadata": dict(labels),
        "services": [service],
        # Fly's own defaults would restart a guest that has ended, and keep its machine.
        "auto_destroy": True,
        "restart": {"policy": "no"},
    }
