"""The ``vercel`` provider: sandboxes in microVMs of Vercel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agenthost.adapter.checks import refuse_fields
from agenthost.adapter.images import ImagesProvider
from agenthost.providers.vercel.backend import VercelBackend
from agenthost.providers.vercel.client import API, TAGS, VercelVendor
from agenthost.providers.vercel.headers import check_headers, check_network
from agenthost.providers.vercel.images import UNIVERSAL, VercelImages
from agenthost.sandbox import Boot, Capabilities, SandboxInfo
from agenthost.spec import HeaderInjection, Limits, SandboxSpec


class VercelProvider(ImagesProvider[VercelVendor]):
    """Sandboxes at Vercel, by its REST API.

    Args:
        token: An access token. None, for all three, is VERCEL_OIDC_TOKEN, else VERCEL_TOKEN,
            VERCEL_TEAM_ID and VERCEL_PROJECT_ID.
        team_id: The team.
        project_id: The project that the sandboxes belong to.
        base_url: Of the API, an emulator's for instance.
        secret: See GuestProvider.
        limits: See GuestProvider.

    Raises:
        MissingCredentialError: There is no credential.
    """

    name = "vercel"
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

    def __init__(
        self,
        *,
        token: str | None = None,
        team_id: str | None = None,
        project_id: str | None = None,
        base_url: str = API,
        secret: str | bytes | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(secret=secret, limits=limits)
        self._credentials = (token, team_id, project_id)
        self._base_url = base_url
        self.make_vendor()  # raises without a credential

    def make_vendor(self) -> VercelVendor:
        """Return a client."""
        return VercelVendor(*self._credentials, base_url=self._base_url)

    def backend(self, known: SandboxInfo, handle: Any, boot: Boot | None = None) -> VercelBackend:
        """Return the backend of a sandbox."""
        return VercelBackend(self, known, handle, boot)

    def check(self, spec: SandboxSpec) -> None:
        """Refuse what cannot be made. Raises ConfigError or UnsupportedError."""
        super().check(spec)
        refuse_fields(spec, self.name, "disk_mib")
        check_network(spec)
        TAGS.pack(spec.labels)

    def check_headers(self, headers: Sequence[HeaderInjection]) -> None:
        """Refuse headers that Vercel's firewall cannot add. See SupportsHeaderInjection."""
        check_headers(headers)

    def images(self) -> VercelImages:
        """Return the project's snapshots."""
        return VercelImages(self.vendor)
