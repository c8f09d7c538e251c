"""The part of Fly's Machines API that agenthost uses, as its documentation describes it, and a check by it.

From superfly/docs 5c22c8c and superfly/fly-go 22d6e51 (August 2026). A type is ``str``, ``int``, ``bool``,
``dict`` of any content, a list with one type, a mapping of fields, or a set of the values that there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

GUEST = {"cpu_kind": {"shared", "performance"}, "cpus": int, "memory_mb": int}
PORT = {"port": int, "handlers": [{"http", "tls", "tcp", "proxy_proto", "pg_tls", "edge_http"}]}
SERVICE = {
    "protocol": {"tcp", "udp"},
    "internal_port": int,
    "autostop": {"off", "stop", "suspend"},
    "autostart": bool,
    "ports": [PORT],
}
CONFIG = {
    "image": str,
    "env": dict,
    "guest": GUEST,
    "init": {"exec": [str], "entrypoint": [str], "cmd": [str], "tty": bool, "swap_size_mb": int},
    "files": [{"guest_path": str, "raw_value": str, "mode": int}],
    "metadata": dict,
    "auto_destroy": bool,
    "restart": {"policy": {"no", "always", "on-failure", "spot-price"}, "max_retries": int},
    "services": [SERVICE],
    "rootfs": {"persist": {"never", "always", "restart"}, "size_gb": int},
}
IMAGE = {"registry": str, "repository": str, "tag": str, "digest": str, "labels": dict}
EVENT = {"id": str, "type": str, "status": str, "source": str, "timestamp": int, "request": dict}
STATES = {
    *("created", "starting", "started", "stopping", "stopped", "suspending", "suspended", "restarting"),
    *("updating", "replacing", "destroying", "destroyed", "failed", "launch_failed", "replaced", "migrated"),
}
MACHINE = {
    "id": str,
    "name": str,
    "state": STATES,
    "region": str,
    "image_ref": IMAGE,
    "instance_id": str,
    "private_ip": str,
    "created_at": str,
    "updated_at": str,
    "config": CONFIG,
    "events": [EVENT],
    "checks": [dict],
    "nonce": str,
    "host_status": str,
}
ERROR = {"error": str, "status": {"unknown", "insufficient_capacity", "name_taken"}, "details": dict}
APP = {"id": str, "name": str, "organization": {"name": str, "slug": str}, "status": str, "network": str}
ADDRESS = {"ip": str, "region": str, "shared": bool, "service_name": str, "created_at": str}
OK = {"ok": bool}
_M = "/v1/apps/{app}/machines"

# By call: what is asked (None: nothing), and what is answered, by status.
CALLS: Mapping[str, tuple[Any, Mapping[int, Any]]] = {
    "GET /v1/apps": (
        None,
        {200: {"total_apps": int, "apps": [{"id": str, "name": str, "machine_count": int, "network": str}]}},
    ),
    "POST /v1/apps": (
        {"app_name": str, "org_slug": str, "network": str},
        {201: {"id": str, "created_at": int}},
    ),
    "GET /v1/apps/{app}": (None, {200: APP}),
    "DELETE /v1/apps/{app}": (None, {202: None}),
    "GET /v1/apps/{app}/ip_assignments": (None, {200: {"ips": [ADDRESS]}}),
    "POST /v1/apps/{app}/ip_assignments": (
        {"type": {"shared_v4", "v4", "v6", "private_v6"}, "region": str, "network": str, "org_slug": str},
        {200: ADDRESS},
    ),
    f"GET {_M}": (None, {200: [MACHINE]}),
    f"POST {_M}": (
        {"name": str, "region": str, "config": CONFIG, "skip_launch": bool, "lease_ttl": int},
        {200: MACHINE},
    ),
    f"GET {_M}/{{id}}": (None, {200: MACHINE}),
    f"DELETE {_M}/{{id}}": (None, {200: OK}),
    f"GET {_M}/{{id}}/wait": (None, {200: OK}),
    f"POST {_M}/{{id}}/exec": (
        {"command": [str], "stdin": str, "timeout": int, "container": str, "machine": bool},
        {200: {"exit_code": int, "exit_signal": int, "stdout": str, "stderr": str}},
    ),
    f"POST {_M}/{{id}}/start": (None, {200: {"previous_state": str, "message": str, "status": str}}),
    f"POST {_M}/{{id}}/suspend": (None, {200: OK}),
}


def deviations(value: object, kind: Any, where: str = "") -> list[str]:
    """Return what of a value is not of a type; a field may be missing, and none may be unknown."""
    if kind is None:
        return [] if value is None else [f"{where}: {value!r} where nothing is expected"]
    if isinstance(kind, set):
        return [] if value in kind else [f"{where}: {value!r}"]
    if isinstance(kind, list):
        if not isinstance(value, list):
            return [f"{where}: {value!r} is not a list"]
        items = cast("list[object]", value)
        (item,) = cast("list[Any]", kind)
        return [one for i, entry in enumerate(items) for one in deviations(entry, item, f"{where}[{i}]")]
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is not an object"]
        known, fields = cast("dict[str, Any]", kind), cast("dict[str, object]", value)
        found = [f"{where}.{name}: unknown" for name in fields if name not in known]
        wrong = [
            one
            for name in fields
            if name in known
            for one in deviations(fields[name], known[name], f"{where}.{name}")
        ]
        return found + wrong
    return [] if type(value) is kind else [f"{where}: {value!r} is not a {kind.__name__}"]
