"""What the guest's refusal of a call becomes on the host."""

from __future__ import annotations

from typing import Any

from agenthost.errors import (
    AccessDeniedError,
    BootstrapError,
    ConfigError,
    GuestLostError,
    LinkError,
    SupersededError,
    UnsupportedError,
)


def call_error(value: dict[str, Any]) -> Exception:
    """Return the exception: the kernel's own error where it was one, else one of agenthost's."""
    kind, message = value.get("type"), value.get("message")
    if kind == "OSError":
        path = value.get("path")
        return OSError(value["errno"], message, path) if path else OSError(value["errno"], message)
    if kind == "Unsupported":
        return UnsupportedError(message)
    if kind == "Taken":
        return ConfigError(message)
    if kind == "AccessDenied":
        return AccessDeniedError(message)
    if kind == "Superseded":
        return SupersededError(message)
    if kind == "Bootstrap":
        return BootstrapError(message)
    if kind == "NoProcess":
        return GuestLostError(message)
    return LinkError(f"the guest refused a call: {message}")
