"""What a client may ask for when it makes a machine, and what is refused."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, cast

from agenthost.testing.emulators.base.rest import Refusal
from agenthost.testing.emulators.fly.about import REFUSED

_KNOWN = {
    *("image", "env", "guest", "init", "files", "metadata", "auto_destroy", "restart", "services", "rootfs"),
    "mounts",
}
_SIZES = {
    "shared": ((1, 2, 4, 6, 8), 256, 2048),
    "performance": ((1, 2, 4, 6, 8, 10, 12, 14, 16), 2048, 8192),
}
_AUTOSTOP = ("off", "stop", "suspend", True, False)

# How a region without room refuses a machine, by a short name.
COATS = {
    "resources": (412, "insufficient resources available to fulfill request", "unknown"),
    "memory": (409, "insufficient memory available to fulfill request", "unknown"),
    "quota": (403, "your organization is over the allowed quota for this region", "unknown"),
    "volume": (400, "no capacity available for this volume", "unknown"),
    "reserve": (422, "could not reserve resource for machine", "unknown"),
    "status": (422, "the machine cannot be placed", "insufficient_capacity"),
}


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse what Fly or this emulator does not accept."""
    for name in config:
        if name not in _KNOWN:
            raise Refusal(501, f"{REFUSED['config']}: {name}")
    if not isinstance(config.get("image"), str) or not config["image"]:
        raise Refusal(400, "invalid config: image is required")
    _check_size(_object(config, "guest"))
    for name in ("env", "metadata"):
        if not all(isinstance(value, str) for value in _object(config, name).values()):
            raise Refusal(400, f"invalid config.{name}: values must be strings")
    if _object(config, "restart").get("policy", "on-failure") != "no":
        raise Refusal(501, REFUSED["restart"])
    for service in _objects(config, "services"):
        if service.get("autostop", "off") not in _AUTOSTOP:
            raise Refusal(400, "invalid config.services: autostop must be off, stop or suspend")
        ports = _objects(service, "ports")
        if service.get("protocol") != "tcp" or [one.get("handlers") for one in ports] != [["tls", "http"]]:
            raise Refusal(501, REFUSED["ports"])
    if len(_objects(config, "services")) > 1:
        raise Refusal(501, REFUSED["ports"])
    files_of(config)


def files_of(config: Mapping[str, Any]) -> dict[str, tuple[bytes, int]]:
    """Return the files that a machine starts with: by absolute path, the data and the mode."""
    found: dict[str, tuple[bytes, int]] = {}
    for one in _objects(config, "files"):
        path, value = one.get("guest_path"), one.get("raw_value")
        if not isinstance(path, str) or not path.startswith("/"):
            raise Refusal(400, "invalid config.files: guest_path must be an absolute path")
        if not isinstance(value, str):
            raise Refusal(501, REFUSED["files"])
        try:
            found[path] = base64.b64decode(value, validate=True), int(one.get("mode") or 0o644)
        except binascii.Error:
            raise Refusal(400, "invalid config.files: raw_value must be base64") from None
    return found


def command_of(config: Mapping[str, Any]) -> list[str]:
    """Return the main program. An image of Python, without a terminal, would end at once."""
    command: list[object] = _object(config, "init").get("exec") or ["true"]
    if not all(isinstance(one, str) for one in command):
        raise Refusal(400, "invalid config.init: exec must be a list of strings")
    return cast("list[str]", command)


def _check_size(guest: Mapping[str, Any]) -> None:
    kind, cpus = guest.get("cpu_kind", "shared"), guest.get("cpus", 1)
    if kind not in _SIZES:
        raise Refusal(422, f"invalid config.guest: cpu_kind {kind!r}")
    numbers, least, most = _SIZES[kind]
    memory = guest.get("memory_mb", 256)
    if cpus not in numbers or type(memory) is not int:
        raise Refusal(422, f"invalid config.guest: {cpus!r} cpus, memory_mb {memory!r}")
    if memory % 256 or not cpus * least <= memory <= cpus * most:
        raise Refusal(422, f"invalid config.guest: memory_mb {memory} for {cpus} cpus")


def _object(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = fields.get(name)
    if found is not None and not isinstance(found, dict):
        raise Refusal(400, f"invalid config.{name}: an object is wanted")
    return cast("dict[str, Any]", found or {})


def _objects(fields: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = fields.get(name)
    items = cast("list[object]", found) if isinstance(found, list) else [] if found is None else [None]
    if not all(isinstance(one, dict) for one in items):
        raise Refusal(400, f"invalid config.{name}: a list of objects is wanted")
    return cast("list[dict[str, Any]]", items)
