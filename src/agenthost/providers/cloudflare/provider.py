"""The ``cloudflare`` provider: sandboxes in containers of Cloudflare, behind a Worker of the user's own."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agenthost.adapter.checks import credential, refuse_fields
from agenthost.adapter.cloud import CloudProvider
from agenthost.adapter.record import PORT_LABEL
from agenthost.errors import ConfigError
from agenthost.providers.cloudflare.api import WorkerApi
from agenthost.providers.cloudflare.backend import CloudflareBackend
from agenthost.providers.cloudflare.client import MAKING, CloudflareVendor
from agenthost.providers.cloudflare.network import Egress, capabilities_of
from agenthost.providers.cloudflare.prices import PRICES
from agenthost.sandbox import Boot, Capabilities, SandboxInfo
from agenthost.spec import Limits, SandboxSpec

_FIRST_PORT, _PORTS = 20_000, 12_000  # below the ports that a kernel gives to connections
_WITH_ONE_IMAGE = ("image", "region", "cpu", "memory_mib", "disk_mib")  # the Worker's configuration has these


class CloudflareProvider(CloudProvider[CloudflareVendor]):
    """Sandboxes in containers of Cloudflare, by a Worker that ``agenthost cloudflare init`` makes.

    Args:
        worker_url: Where the Worker answers, ``https://NAME.ACCOUNT.workers.dev`` for instance; None is
            ``CLOUDFLARE_SANDBOX_WORKER_URL``.
        api_key: The Worker's secret SANDBOX_API_KEY; None is ``CLOUDFLARE_SANDBOX_API_KEY``. It never
            enters a sandbox.
        egress: What the Worker lets its sandboxes reach: ``open``, everything; ``closed``, the hosts that it
            was deployed with, if any. A Worker that states something else is refused.
        secret: See GuestProvider.
        limits: See GuestProvider.

    Raises:
        MissingCredentialError: There is no URL or no key.
        ConfigError: ``worker_url`` or ``egress`` is not valid.
    """

    name = "cloudflare"
    prices = PRICES
    capabilities = Capabilities(isolation="microvm", networks=frozenset({"open"}), lease=True)
    home = "/root"
    user_is_root = True
    longest = 24 * 3600.0  # agenthost's own bound: Cloudflare has none, and replaces hosts now and then
    making = MAKING + 20
    looks = (0.0, 1.0, 2.0)  # the Worker's index does not lag, but a request may still be on its way

    def __init__(
        self,
        *,
        worker_url: str | None = None,
        api_key: str | None = None,
        egress: Egress = "open",
        secret: str | bytes | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(secret=secret, limits=limits)
        self._url, self._api_key = credential(
            "cloudflare",
            worker_url=(worker_url, "CLOUDFLARE_SANDBOX_WORKER_URL"),
            api_key=(api_key, "CLOUDFLARE_SANDBOX_API_KEY"),
        )
        if not self._url.startswith(("https://", "http://127.0.0.1:", "http://localhost:", "http://[::1]:")):
            raise ConfigError("worker_url is not a valid URL: it begins with https://")
        self._egress: Egress = egress
        self.capabilities = capabilities_of(self.capabilities, egress)

    def make_vendor(self) -> CloudflareVendor:
        """Return a client."""
        return CloudflareVendor(WorkerApi(url=self._url, api_key=self._api_key, egress=self._egress))

    async def plan_limits(self) -> Mapping[str, str]:
        """Return what the Worker states of its sandboxes. See CloudProvider.plan_limits."""
        about = await self.vendor.api.about()
        return {"lifetime": f"{about.longest / 3600:g} hours at most", **about.resources}

    def backend(self, known: SandboxInfo, handle: Any, boot: Boot | None = None) -> CloudflareBackend:
        """Return the backend of a sandbox."""
        return CloudflareBackend(self, known, handle, boot)

    def check(self, spec: SandboxSpec) -> None:
        """Refuse what cannot be made. Raises ConfigError or UnsupportedError."""
        super().check(spec)
        refuse_fields(spec, self.name, *_WITH_ONE_IMAGE)

    async def resolve(self, spec: SandboxSpec) -> SandboxSpec:
        """Fill in the port of the guest."""
        port = str(_FIRST_PORT + secrets.randbelow(_PORTS))
        return replace(spec, labels={**spec.labels, PORT_LABEL: port})
