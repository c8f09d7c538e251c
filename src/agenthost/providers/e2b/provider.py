"""The ``e2b`` provider: sandboxes in microVMs of E2B."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agenthost.adapter.bake import BakePlan
from agenthost.adapter.checks import refuse_fields
from agenthost.adapter.images import ImagesProvider
from agenthost.errors import ConfigError, UnsupportedError
from agenthost.providers.e2b import network
from agenthost.providers.e2b.backend import E2BBackend
from agenthost.providers.e2b.client import USER, E2BVendor
from agenthost.providers.e2b.prices import PRICES
from agenthost.providers.e2b.templates import BASE, E2BTemplates
from agenthost.sandbox import Boot, Capabilities, SandboxInfo
from agenthost.spec import HeaderInjection, Limits, SandboxSpec
from agenthost.supports import ImageRecipe

_LEAST = {"cpu": 1, "memory_mib": 1024, "free_disk_mib": 5120}  # what the SDK needs


class E2BProvider(ImagesProvider[E2BVendor]):
    """Sandboxes at E2B, by the vendor's own client, which works on asyncio alone.

    Args:
        api_key: None is ``E2B_API_KEY``.
        domain: Of another installation; None is ``E2B_DOMAIN``, else E2B's own. The installation must have
            E2B's API of version 2, which the infrastructure that E2B publishes does not have.
        api_url: The control plane, where the domain does not determine it.
        sandbox_url: The address of the sandboxes, likewise.
        cpu: Cores of the templates that ``build`` makes; E2B gives sizes to templates, not to sandboxes.
        memory_mib: Memory of these templates.
        free_disk_mib: Disk space of these templates beyond what fills them.
        secret: See GuestProvider.
        limits: See GuestProvider.

    Raises:
        MissingExtraError: The vendor's package is not installed.
        MissingCredentialError: There is no key.
    """

    name = "e2b"
    prices = PRICES
    capabilities = Capabilities(
        isolation="microvm",
        networks=frozenset({"open", "none", "allow"}),
        default_network="open",
        lease=True,
        pause=True,
        ports=True,
        snapshot=True,
        images=True,
        header_injection=True,
    )
    asyncio_only = True
    home = f"/home/{USER}"
    longest = 24 * 3600.0  # of the largest plan
    options = (network.PUBLIC,)
    default_base = BASE

    def __init__(
        self,
        *,
        api_key: str | None = None,
        domain: str | None = None,
        api_url: str | None = None,
        sandbox_url: str | None = None,
        cpu: int = 2,
        memory_mib: int = 2048,
        free_disk_mib: int = 5120,
        secret: str | bytes | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(secret=secret, limits=limits)
        self._client = E2BVendor(api_key=api_key, domain=domain, api_url=api_url, sandbox_url=sandbox_url)
        self._size = {"cpu": cpu, "memory_mib": memory_mib, "free_disk_mib": free_disk_mib}
        self.image_parts = tuple(self._size.values())

    def make_vendor(self) -> E2BVendor:
        """Return the client, which keeps no connections: one is enough."""
        return self._client

    def backend(self, known: SandboxInfo, handle: Any, boot: Boot | None = None) -> E2BBackend:
        """Return the backend of a sandbox."""
        return E2BBackend(self, known, handle, boot)

    def check(self, spec: SandboxSpec) -> None:
        """Refuse what cannot be made. Raises ConfigError or UnsupportedError."""
        super().check(spec)
        refuse_fields(spec, self.name, "region")
        if not isinstance(spec.provider_options.get(network.PUBLIC, False), bool):
            raise ConfigError(f"provider_options[{network.PUBLIC!r}] must be true or false")
        # A sandbox has the size of its template, which is known of our own templates only.
        for name, size in zip(("cpu", "memory_mib", "disk_mib"), self._size.values(), strict=True):
            wanted = getattr(spec, name)
            if wanted is not None and (wanted > size or spec.image is not None):
                raise UnsupportedError(
                    f"{name}={wanted!r}: an E2B sandbox has the size of its template. Make one: "
                    f"E2BProvider(cpu=..., memory_mib=..., free_disk_mib=...).build(...), without image="
                )

    def check_headers(self, headers: Sequence[HeaderInjection]) -> None:
        """Refuse headers that E2B's proxy cannot add. See SupportsHeaderInjection."""
        network.check_headers(headers)

    def images(self) -> E2BTemplates:
        """Return the account's templates."""
        cpu, memory, disk = self._size.values()
        return E2BTemplates(self.vendor, {"cpu_count": cpu, "memory_mb": memory, "min_free_disk_mb": disk})

    async def resolve(self, spec: SandboxSpec) -> SandboxSpec:
        """Fill in the template. Raises UnsupportedError for a size, where none was baked."""
        resolved = await super().resolve(spec)
        if resolved.image == BASE != spec.image and (spec.cpu or spec.memory_mib or spec.disk_mib):
            raise UnsupportedError("cpu, memory_mib, disk_mib: no template was baked yet: agenthost bake e2b")
        return resolved

    def plan(self, recipe: ImageRecipe) -> BakePlan:
        """Return how a recipe's template is made. Raises ConfigError for a size below the SDK's needs."""
        for name, least in _LEAST.items():
            if self._size[name] < least:
                raise ConfigError(f"{name}={self._size[name]}: the SDK needs at least {least}")
        return super().plan(recipe)
