"""The ``vercel`` provider: sandboxes in microVMs of Vercel."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any, Literal

from agenthost.adapter.checks import refuse_fields
from agenthost.adapter.images import ImagesProvider
from agenthost.adapter.record import PORT_LABEL
from agenthost.errors import ConfigError
from agenthost.providers.vercel.backend import VercelBackend
from agenthost.providers.vercel.client import API, TAGS, VercelVendor
from agenthost.providers.vercel.headers import check_headers, check_network
from agenthost.providers.vercel.images import UNIVERSAL, VercelImages
from agenthost.providers.vercel.prices import PRICES
from agenthost.sandbox import Boot, Capabilities, SandboxInfo
from agenthost.spec import Limits, SandboxSpec


class VercelProvider(ImagesProvider[VercelVendor]):
    """Sandboxes at Vercel, by its REST API.

    Args:
        token: An access token. None, for all three, is VERCEL_OIDC_TOKEN, else VERCEL_TOKEN,
            VERCEL_TEAM_ID and VERCEL_PROJECT_ID.
        team_id: The team.
        project_id: The project that the sandboxes belong to.
        carrier: How hosts reach a guest: ``stdio`` by the streams of a program, or ``http`` by a port, which
            is public and admits nothing without a token of agenthost's.
        base_url: Of the API, an emulator's for instance.
        secret: See GuestProvider.
        limits: See GuestProvider.

    Raises:
        MissingCredentialError: There is no credential.
    """

    name = "vercel"
    prices = PRICES
    capabilities = Capabilities(
        isolation="microvm",
        networks=frozenset({"open", "none", "allow"}),
        default_network="open",
        lease=True,
        images=True,
        header_injection=True,
    )
    home = "/vercel"
    longest = 24 * 3600.0  # of the larger plans
    default_base = UNIVERSAL
    check_headers = staticmethod(check_headers)  # see SupportsHeaderInjection

    def __init__(
        self,
        *,
        token: str | None = None,
        team_id: str | None = None,
        project_id: str | None = None,
        carrier: Literal["stdio", "http"] = "stdio",
        base_url: str = API,
        secret: str | bytes | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(secret=secret, limits=limits)
        if carrier not in ("stdio", "http"):
            raise ConfigError(f"carrier={carrier!r}: known are 'stdio' and 'http'")
        self._carrier = carrier
        self._account = (token, team_id, project_id, base_url)
        self.make_vendor()  # raises without a credential

    def make_vendor(self) -> VercelVendor:
        """Return a client."""
        return VercelVendor(*self._account)

    def backend(self, known: SandboxInfo, handle: Any, boot: Boot | None = None) -> VercelBackend:
        """Return the backend of a sandbox."""
        return VercelBackend(self, known, handle, boot)

    def check(self, spec: SandboxSpec) -> None:
        """Refuse what cannot be made. Raises ConfigError or UnsupportedError."""
        super().check(spec)
        refuse_fields(spec, self.name, "disk_mib")
        check_network(spec)
        TAGS.pack(spec.labels)

    async def resolve(self, spec: SandboxSpec) -> SandboxSpec:
        """Fill in the image, and the port of the guest where there is to be one."""
        spec = await super().resolve(spec)
        if self._carrier == "stdio":
            return spec
        # Below the ports of clients.
        return replace(spec, labels={**spec.labels, PORT_LABEL: str(20_000 + secrets.randbelow(12_000))})

    def images(self) -> VercelImages:
        """Return the project's snapshots."""
        return VercelImages(self.vendor)
