"""What to make: frozen values, no I/O."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal, cast

from agenthost.errors import ConfigError

DEFAULT_LIFETIME = 3600.0  # seconds; an hour is what the providers' own defaults lie around

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")


_NUMBER = (int, float)
_COUNTS = ("pids", "inodes", "cpu_weight")
_HIGHEST_WEIGHT = 10_000  # of the kernel, cpu.weight


def require(what: str, value: object, kinds: type | tuple[type, ...], wanted: str) -> None:
    """Refuse a value that is not of one of these types; a bool is not a number.

    Raises:
        ConfigError: It names ``what`` and says what is ``wanted``.
    """
    if isinstance(value, bool) or not isinstance(value, kinds):
        # What is more than a word or a number may hold a secret.
        is_plain = value is None or isinstance(value, str | int | float)
        shown = repr(value) if is_plain else f"of type {type(value).__name__}"
        raise ConfigError(f"{what} is {shown}; it must be {wanted}")


def _require_above_0(owner: object, *names: str) -> None:
    """Refuse what is not None and not a number above 0."""
    for name in names:
        value = getattr(owner, name)
        if value is not None:
            kinds = int if name.endswith("_mib") or name in _COUNTS else _NUMBER
            require(name, value, kinds, "a whole number" if kinds is int else "a number")
            if not value > 0:
                raise ConfigError(f"{name} is {value!r}; it must be above 0")
            if value == math.inf:
                raise ConfigError(f"{name} is inf; it must be finite")


def _require_mapping(name: str, given: object) -> None:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{name} is of type {type(given).__name__}; it must map names to values")


def require_texts(name: str, given: object) -> None:
    """Refuse what does not map texts to texts. A value is not shown: an environment may hold a secret.

    Raises:
        ConfigError: It names ``name`` and the key.
    """
    _require_mapping(name, given)
    for key, text in cast("Mapping[object, object]", given).items():
        if not isinstance(key, str) or not isinstance(text, str):
            kind = type(text).__name__ if isinstance(key, str) else type(key).__name__
            raise ConfigError(f"{name}[{key!r}] is of type {kind}; names and values must be strings")


def unpassable(text: str) -> str | None:
    """Return why no program can be given a text, for a message that begins with what it is; None if it can.

    What was no UTF-8 and is marked by ``surrogateescape`` can, as everywhere in Python.
    """
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        return f"holds U+{ord(text[error.start]):04X}, half of a character, which has no bytes"
    return "holds a NUL byte" if b"\0" in data else None


def check_text(name: str, text: object) -> str:
    """Return a text, or refuse it. A path is a text: paths of the host are other objects than those inside.

    Raises:
        TypeError: It is not a string.
        ValueError: It holds a NUL byte, or half of a character.
    """
    if not isinstance(text, str):
        hint = f", str({name}) for instance" if hasattr(text, "__fspath__") else ""
        raise TypeError(f"{name} is of type {type(text).__name__}; it must be a string{hint}")
    if why := unpassable(text):
        raise ValueError(f"{name} {why}")
    return text


def _require_passable(what: str, text: str) -> None:
    """Refuse a text that no program can be given. The text is not shown."""
    if why := unpassable(text):
        raise ConfigError(f"{what} {why}")


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
    def allow(hosts: Iterable[str]) -> NetworkPolicy:
        """Only these host names.

        Raises:
            ConfigError: It is not a list of names; one name alone is not a list.
        """
        given = cast("object", hosts)  # types are hints
        names = None if isinstance(given, str) or not isinstance(given, Iterable) else tuple(hosts)
        if names is None or not all(isinstance(name, str) for name in cast("tuple[object]", names)):
            raise ConfigError(f"NetworkPolicy.allow({hosts!r}): a list of host names is wanted")
        return NetworkPolicy("allow", names)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderInjection:
    """A header that the provider adds outside the sandbox, so that the secret never enters it."""

    host: str
    header: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """Hard caps. A provider enforces each one exactly or refuses it with UnsupportedError.

    None is the provider's default, which its documentation names and ``SandboxInfo.resources`` reports. A
    default that the machine cannot enforce is one warning.

    Attributes:
        memory_mib: Memory of the whole sandbox, files in memory (tmpfs) included, in MiB.
        cpu: Processor time in cores; 0.5 is half a core.
        cpu_weight: Share of the processors while others want them too, 1 to 10,000. All others that have none
            of their own weigh 100.
        pids: Processes and threads alive at once.
        disk_mib: Bytes on disk, in MiB. A provider may end the sandbox that has grown past it.
        inodes: Files and directories on disk. A provider may end the sandbox that has more.
        core_mib: Size of the file that the kernel writes when a program crashes, in MiB.
    """

    memory_mib: int | None = None
    cpu: float | None = None
    cpu_weight: int | None = None
    pids: int | None = None
    disk_mib: int | None = None
    inodes: int | None = None
    core_mib: int | None = None

    def __post_init__(self) -> None:
        """Refuse what bounds nothing. ConfigError names the field."""
        _require_above_0(self, *(field_.name for field_ in fields(self)))
        if self.cpu_weight is not None and self.cpu_weight > _HIGHEST_WEIGHT:
            raise ConfigError(f"cpu_weight is {self.cpu_weight!r}; it must be at most {_HIGHEST_WEIGHT}")


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
        labels: Labels for ``list``. Names that agenthost itself stores (``agenthost-owner``) are refused.
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
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
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
        """Refuse what no provider could make. ConfigError names the field."""
        for name in ("name", "image", "workdir", "region"):
            if getattr(self, name) is not None:
                require(name, getattr(self, name), str, "a string")
        require("limits", self.limits, ResourceLimits, "a ResourceLimits, ResourceLimits(memory_mib=512)")
        if self.network is not None:
            wanted = "NetworkPolicy.none(), NetworkPolicy.open() or NetworkPolicy.allow([...])"
            require("network", self.network, NetworkPolicy, wanted)
        for name, kind in (("mounts", Mount), ("inject", HeaderInjection)):
            found: object = getattr(self, name)
            items = cast("Sequence[object]", found) if isinstance(found, list | tuple) else [None]
            if not all(isinstance(one, kind) for one in items):
                raise ConfigError(f"{name} must be a list of {kind.__name__}")
        _require_mapping("provider_options", self.provider_options)
        require_texts("env", self.env)
        require_texts("labels", self.labels)
        if self.name is not None and not _NAME.match(self.name):
            raise ConfigError(
                f"sandbox name {self.name!r}: use 1 to 63 lower-case letters, digits and dashes, "
                "beginning with a letter or digit"
            )
        if self.workdir is not None and not self.workdir.startswith("/"):
            raise ConfigError(f"workdir {self.workdir!r} is not an absolute path")
        _require_above_0(self, "max_lifetime", "lease", "cpu", "memory_mib", "disk_mib")
        _require_passable("workdir", self.workdir or "")
        for key, value in self.env.items():
            if not key or "=" in key or "\0" in key:
                raise ConfigError(f"environment variable name {key!r} is not valid")
            _require_passable(f"the name of env[{key!r}]", key)
            _require_passable(f"env[{key!r}]", value)


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
            SDK's own three times 5. The provider then has 30 to end the sandbox: 45 in all. What has not
            ended by then is logged, and ends with its lifetime.
        link_budget: Seconds spent on reconnecting before LinkLostError. 60.
        call_timeout: Seconds in which a control method (``interrupt``, ``set_model``, ``get_mcp_status`` ...)
            has its answer, and in which the sandbox answers a call while its link is up. 60 is the SDK's own
            for its control requests.
        request_bytes: Largest model request that the host takes from a sandbox, in bytes. 64 MiB: the
            Messages API itself refuses requests above 32 MB.
        model_requests: Requests to the model in the agent's life. None: what ``max_turns`` implies, 1,000 and
            100 for each turn, for every prompt; without ``max_turns`` no bound.
        model_tokens: Tokens in the agent's life, of requests and answers, cached or not. None: no bound.
        model_usd: Dollars in the agent's life, by list prices. None: no bound but ``max_budget_usd`` of the
            options, which the host counts, too. See docs/model-access.md.
    """

    host_away: float = 24 * 3600.0
    decision_wait: float | None = None
    start: float = 120.0
    close: float = 15.0
    link_budget: float = 60.0
    call_timeout: float = 60.0
    request_bytes: int = 64 * 1024 * 1024
    model_requests: int | None = None
    model_tokens: int | None = None
    model_usd: float | None = None

    def __post_init__(self) -> None:
        """Refuse what bounds nothing. ConfigError names the field."""
        for field_ in fields(self):
            value: float | None = getattr(self, field_.name)
            name = f"Limits.{field_.name}"
            if value is None and field_.default is None:
                continue
            require(name, value, _NUMBER, "a number")
            assert value is not None
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} is {value!r}; it must be a number, at least 0")
            bounds_all = field_.name in ("start", "call_timeout", "request_bytes")
            if not value and (bounds_all or field_.name.startswith("model_")):
                raise ConfigError(f"{name} is {value!r}; it must be above 0")
