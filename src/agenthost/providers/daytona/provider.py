"""The ``daytona`` provider: sandboxes of Daytona."""

from __future__ import annotations

import math
import secrets
from dataclasses import replace
from typing import Any

from agenthost.adapter.images import ImagesProvider
from agenthost.adapter.record import PORT_LABEL
from agenthost.errors import ConfigError, UnsupportedError
from agenthost.providers.daytona import network
from agenthost.providers.daytona.backend import DaytonaBackend
from agenthost.providers.daytona.client import DaytonaVendor
from agenthost.providers.daytona.images import BASE, DEFAULT, USER, DaytonaImages
from agenthost.providers.daytona.prices import PRICES
from agenthost.providers.daytona.workarounds import require_kit, settings
from agenthost.sandbox import Boot, Capabilities, SandboxInfo
from agenthost.spec import Limits, SandboxSpec

_LEAST = {"cpu": 1, "memory_gib": 1, "disk_gib": 5}  # what the SDK needs
_SIZE = (
    "a sandbox of Daytona has the size of its snapshot. Make one: "
    "DaytonaProvider(cpu=..., memory_gib=..., disk_gib=...).build(...), without image="
)
_PORTS = range(10_000, 22_000)  # Daytona keeps 2280, 22222 and 33333 for itself


class DaytonaProvider(ImagesProvider[DaytonaVendor]):
    """Sandboxes at Daytona, by the vendor's own client below version 1, which works on asyncio alone.

    Args:
        api_key: None is ``DAYTONA_API_KEY``.
        jwt_token: Instead of a key; None is ``DAYTONA_JWT_TOKEN``.
        organization_id: Of the token; None is ``DAYTONA_ORGANIZATION_ID``.
        api_url: None is ``DAYTONA_API_URL``, else Daytona's own.
        target: The region of a spec that names none; None is ``DAYTONA_TARGET``, else ``us``.
        cpu: Cores of the snapshots that ``build`` makes; Daytona gives sizes to snapshots, not to sandboxes.
        memory_gib: Memory of these snapshots, in GiB.
        disk_gib: Disk of these snapshots, in GiB.
        secret: See GuestProvider.
        limits: See GuestProvider.

    Raises:
        ConfigError: A size below what the SDK needs.
        MissingExtraError: The vendor's package is not installed.
        MissingCredentialError: There is no credential.
    """

    name = "daytona"
    prices = PRICES
    slow_client = True
    capabilities = Capabilities(
        isolation="namespaces",
        networks=frozenset({"open", "none", "allow"}),
        default_network="open",
        lease=True,
        ports=True,
        images=True,
    )
    asyncio_only = True
    home = f"/home/{USER}"
    longest = math.inf  # Daytona documents no limit
    options = (network.SECRETS,)
    default_base = BASE

    def __init__(
        self,
        *,
        api_key: str | None = None,
        jwt_token: str | None = None,
        organization_id: str | None = None,
        api_url: str | None = None,
        target: str | None = None,
        cpu: int = 2,
        memory_gib: int = 4,
        disk_gib: int = 8,
        secret: str | bytes | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(secret=secret, limits=limits)
        require_kit()
        self._fields = settings(api_key, jwt_token, organization_id, api_url, target)
        self._size = {"cpu": cpu, "memory_gib": memory_gib, "disk_gib": disk_gib}
        if small := [name for name, least in _LEAST.items() if self._size[name] < least]:
            raise ConfigError(f"{small[0]}={self._size[small[0]]}: the SDK needs {_LEAST[small[0]]} or more")
        self.image_parts = (cpu, memory_gib * 1024, disk_gib * 1024)

    def make_vendor(self) -> DaytonaVendor:
        """Return a client, which opens its connections with its first call."""
        return DaytonaVendor(self._fields)

    def backend(self, known: SandboxInfo, handle: Any, boot: Boot | None = None) -> DaytonaBackend:
        """Return the backend of a sandbox."""
        return DaytonaBackend(self, known, handle, boot)

    def check(self, spec: SandboxSpec) -> None:
        """Refuse what cannot be made. Raises ConfigError or UnsupportedError."""
        super().check(spec)
        network.check_network(spec)
        network.secrets_of(spec)
        for name, size in zip(("cpu", "memory_mib", "disk_mib"), self.image_parts, strict=True):
            wanted = getattr(spec, name)
            if wanted is not None and (wanted > size or spec.image is not None):
                raise UnsupportedError(f"{name}={wanted!r}: {_SIZE}")

    def check_made(self, spec: SandboxSpec, handle: Any) -> None:
        """Refuse a sandbox with another network than was asked for. Raises UnsupportedError."""
        network.refuse_ignored(network.network_of(spec), handle)

    async def resolve(self, spec: SandboxSpec) -> SandboxSpec:
        """Fill in the snapshot and the guest's port. UnsupportedError: a size, and no snapshot of a size."""
        resolved = await super().resolve(spec)
        if resolved.image == DEFAULT != spec.image and (spec.cpu or spec.memory_mib or spec.disk_mib):
            raise UnsupportedError(f"cpu, memory_mib, disk_mib: no snapshot was baked yet; {_SIZE}")
        return replace(resolved, labels={**resolved.labels, PORT_LABEL: str(secrets.choice(_PORTS))})

    def images(self) -> DaytonaImages:
        """Return the organization's snapshots."""
        return DaytonaImages(self.vendor, self._size)
