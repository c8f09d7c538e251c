"""What to make: frozen values, no I/O."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

from agenthost.errors import ConfigError

DEFAULT_LIFETIME = 3600.0  # seconds; an hour is what the providers' own defaults lie around

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")


def generate_name() -> str:
    """Return a fresh sandbox name: ``ah-`` and 12 hexadecimal digits (48 random bits)."""
    return "ah-" + secrets.token_hex(6)


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Which hosts a sandbox may reach. Use the three functions below to make one."""

    mode: Literal["open", "none", "allow"]
    hosts: tuple[str, ...] = ()

    @staticmethod
    def open() -> NetworkPolicy:
        """Everything that the provider's network reaches."""
        return NetworkPolicy("open")

    @staticmethod
    def none() -> NetworkPolicy:
        """Nothing at all. The agent's model traffic still works: it travels over the link."""
        return NetworkPolicy("none")

    @staticmethod
    def allow(hosts: Sequence[str]) -> NetworkPolicy:
        """Only these host names."""
        return NetworkPolicy("allow", tuple(hosts))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderInjection:
    """A header that the provider adds outside the sandbox, so that the secret never enters it."""

    host: str
    header: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """Hard caps. A provider enforces each one exactly or refuses it with UnsupportedError.

    Attributes:
        memory_mib: Memory of the whole sandbox, in MiB.
        cpu: Processor time in cores; 0.5 is half a core.
        pids: Processes and threads alive at once.
        disk_mib: Bytes on disk, in MiB.
    """

    memory_mib: int | None = None
    cpu: float | None = None
    pids: int | None = None
    disk_mib: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A directory or file of the host, seen read-only inside the sandbox.

    Attributes:
        source: Absolute path on the host.
        target: Absolute path inside.
    """

    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """One sandbox. Every field has a default; unknown fields are a TypeError.

    Attributes:
        name: Unique name: lower-case letters, digits and dashes, at most 63. Generated when None.
        image: What the provider calls an image, template or snapshot. None is its default.
        cpu: Cores, at least. None is the provider's default.
        memory_mib: Memory in MiB, at least.
        disk_mib: Disk in MiB, at least.
        limits: Hard caps, enforced exactly or refused.
        env: Environment variables of every process inside. Not for secrets: labels and environments
            are shown by the provider's tools.
        labels: Labels for ``list``.
        workdir: Absolute path; None is ``/workspace`` where possible.
        max_lifetime: Seconds until the sandbox ends, whatever happens to the host. None is one hour.
        lease: Seconds of a short server-side end that is refreshed while an agent works. None is none.
        network: None is the provider's documented default (``local``: no network).
        mounts: Read-only mounts.
        inject: Headers added outside the sandbox.
        region: Where, in the provider's own words.
        provider_options: The provider's own options; unknown keys are refused.
    """

    name: str | None = None
    image: str | None = None
    cpu: float | None = None
    memory_mib: int | None = None
    disk_mib: int | None = None
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    workdir: str | None = None
    max_lifetime: float | None = None
    lease: float | None = None
    network: NetworkPolicy | None = None
    mounts: tuple[Mount, ...] = ()
    inject: tuple[HeaderInjection, ...] = ()
    region: str | None = None
    provider_options: Mapping[str, object] = field(default_factory=dict[str, object])

    def __post_init__(self) -> None:
        """Refuse what no provider could make."""
        if self.name is not None and not _NAME.match(self.name):
            raise ConfigError(
                f"sandbox name {self.name!r}: use 1 to 63 lower-case letters, digits and dashes, "
                "beginning with a letter or digit"
            )
        if self.workdir is not None and not self.workdir.startswith("/"):
            raise ConfigError(f"workdir {self.workdir!r} is not an absolute path")
        for name in ("max_lifetime", "lease", "cpu", "memory_mib", "disk_mib"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value!r}; it must be above 0")
        for key in self.env:
            if not key or "=" in key or "\0" in key:
                raise ConfigError(f"environment variable name {key!r} is not valid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one agent.

    Attributes:
        host_away: Seconds that a model request is held while no driver is attached. 24 hours.
        decision_wait: Seconds that a decision (``can_use_tool``, a hook) waits while no driver is attached,
            before it is denied. None waits as long as it takes.
        start: Seconds from asking for a sandbox until its agent answers. 120: a first start from a cold
            disk reads 360 MiB.
        close: Seconds that leaving the block may take before the sandbox is ended by force. 15 is the
            SDK's own three times 5.
        link_budget: Seconds spent on reconnecting before LinkLostError. 60.
        request_bytes: Largest model request that the host takes from a sandbox, in bytes. 64 MiB: the
            Messages API itself refuses requests above 32 MB.
    """

    host_away: float = 24 * 3600.0
    decision_wait: float | None = None
    start: float = 120.0
    close: float = 15.0
    link_budget: float = 60.0
    request_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        """Refuse what bounds nothing. ConfigError names the field."""
        for field_ in fields(self):
            value = getattr(self, field_.name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"Limits.{field_.name} is {value!r}; it must be a number, at least 0")
