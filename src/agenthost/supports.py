"""What only some providers can do. Each protocol has a capability: ask for it before anything is made.

Those of a sandbox are implemented by its Backend, those of a provider by the provider. Nothing subclasses
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from agenthost.spec import HeaderInjection


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a port of a sandbox is reached from outside.

    Attributes:
        url: With scheme and, where it needs one, port.
        headers: What each request must carry; secret.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


@runtime_checkable
class SupportsPorts(Protocol):
    """A Backend that can make a port of its sandbox reachable. Capability ``ports``."""

    async def endpoint(self, port: int) -> Endpoint:
        """Return where a TCP port of the sandbox is reached.

        Raises:
            SandboxGoneError: It has ended.
        """
        ...


@runtime_checkable
class SupportsLease(Protocol):
    """A Backend whose sandbox has a short server-side end that can be moved. Capability ``lease``."""

    async def extend(self, seconds: float) -> None:
        """Let the sandbox end so many seconds from now, and not after its lifetime.

        Raises:
            SandboxGoneError: It has ended.
        """
        ...


@runtime_checkable
class SupportsPause(Protocol):
    """A Backend whose sandbox can stand still, and cost less then. Capability ``pause``."""

    async def pause(self) -> None:
        """Let it stand still. Idempotent. Nothing but ``resume`` makes it run again."""
        ...

    async def resume(self) -> None:
        """Let it run again: the same processes, the same boot. Idempotent.

        Raises:
            SandboxGoneError: It has ended meanwhile.
        """
        ...


@runtime_checkable
class SupportsSnapshot(Protocol):
    """A Backend that can keep its sandbox's files as an image. Capability ``snapshot``."""

    async def snapshot(self, name: str | None = None) -> str:
        """Return the image of what is there now, for ``SandboxSpec.image``. It outlives the sandbox."""
        ...


@runtime_checkable
class SupportsBulkFiles(Protocol):
    """A Backend with file calls of the vendor's own, for large files. Capability ``bulk_files``."""

    async def put(self, path: str, data: bytes) -> None:
        """Write a file at an absolute path."""
        ...

    async def get(self, path: str) -> bytes:
        """Read a file at an absolute path."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecipe:
    """An image that an agent starts fast in: Python, the SDK and the runner are there already.

    Attributes:
        base: The image to begin from, in the provider's words. None is the provider's default.
        packages: More Python packages, as pip would be told.
        sdk_version: Of claude-agent-sdk. None is the host's.
    """

    base: str | None = None
    packages: tuple[str, ...] = ()
    sdk_version: str | None = None


@runtime_checkable
class SupportsImages(Protocol):
    """A provider that can make images. Capability ``images``."""

    async def build(
        self, recipe: ImageRecipe, *, force: bool = False, on_progress: Callable[[str], object] | None = None
    ) -> str:
        """Return the image of a recipe, for ``SandboxSpec.image``.

        It is named by a hash of what goes into it, the SDK's version among that, and made only when it is
        not there yet. Cancelled or failed, it leaves nothing.

        Args:
            recipe: What goes into it.
            force: Make it anew although it is there.
            on_progress: Called with a line of text for each step, and for what the builder prints.

        Raises:
            ConfigError: The recipe makes no sense, the base is unknown for instance.
            ProviderError: It could not be made; with the end of what the builder printed.
        """
        ...


@runtime_checkable
class SupportsHeaderInjection(Protocol):
    """A provider that adds headers to requests outside its sandboxes. Capability ``header_injection``.

    It takes them from ``SandboxSpec.inject`` when it makes one; what a secret is, a value or the name under
    which the provider keeps it, is the provider's to say.
    """

    def check_headers(self, headers: Sequence[HeaderInjection]) -> None:
        """Refuse headers that it cannot add, before anything is made. Errors never hold a secret.

        Raises:
            ConfigError: A secret in a form that it does not take, for instance.
            UnsupportedError: A host or a header that it does not do this for.
        """
        ...


@runtime_checkable
class SupportsPlanLimits(Protocol):
    """A provider whose vendor reports what the account's sandboxes may have. See ``agenthost doctor``."""

    async def plan_limits(self) -> Mapping[str, str]:
        """Return what the vendor reports, by name: ``lifetime``, for instance. The values are for people.

        Raises:
            AgentHostError: The vendor cannot be asked.
        """
        ...
