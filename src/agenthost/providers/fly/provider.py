"""The ``fly`` provider: sandboxes in Fly Machines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agenthost.adapter.checks import credential
from agenthost.adapter.cloud import CloudProvider
from agenthost.adapter.record import LabelRule
from agenthost.link.layout import GuestLayout
from agenthost.providers.fly.api import PUBLIC, FlyApi
from agenthost.providers.fly.app import PreparedApp, prepare_app
from agenthost.providers.fly.backend import FlyBackend
from agenthost.providers.fly.client import FlyVendor
from agenthost.providers.fly.machine import KIND, port_of, size_of
from agenthost.providers.fly.prices import PRICES
from agenthost.sandbox import Boot, Capabilities, SandboxInfo
from agenthost.spec import Limits, SandboxSpec


class FlyProvider(CloudProvider[FlyVendor]):
    """Sandboxes in the machines of one app at Fly, by its REST interface.

    Args:
        token: None is ``FLY_API_TOKEN``. It never enters a sandbox.
        app: The app, which ``agenthost fly init`` makes; None is ``FLY_APP``.
        regions: Where sandboxes are made whose spec names no region: the first that has room. Empty is where
            Fly sees fit.
        private: Whether this program runs in the private network of the app, and reaches sandboxes there.
        api_url: Another address of the Machines API; None is ``FLY_API_HOSTNAME``, else Fly's public one.
        app_url: Another address of the app, of an emulator for instance; None is ``https://APP.fly.dev``.
        secret: See GuestProvider.
        limits: See GuestProvider.

    Raises:
        MissingCredentialError: There is no token, or no app.
    """

    name = "fly"
    prices = PRICES
    capabilities = Capabilities(isolation="microvm", networks=frozenset({"open"}), pause=True)
    home = "/root"
    user_is_root = True
    longest = 30 * 24 * 3600.0  # agenthost's own bound: Fly has none
    options = (KIND,)
    label_rule = LabelRule(longest=255)  # Fly states no rule; its own labels have underscores

    def __init__(
        self,
        *,
        token: str | None = None,
        app: str | None = None,
        regions: Sequence[str] = (),
        private: bool = False,
        api_url: str | None = None,
        app_url: str | None = None,
        secret: str | bytes | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(secret=secret, limits=limits)
        self._token, self.app = credential("fly", token=(token, "FLY_API_TOKEN"), app=(app, "FLY_APP"))
        self._regions = tuple(regions)
        self._api_url = api_url or os.environ.get("FLY_API_HOSTNAME") or PUBLIC
        self._address = "::" if private else "0.0.0.0"  # the private network has IPv6 alone
        self.url = None if private else app_url or f"https://{self.app}.fly.dev"

    def make_vendor(self) -> FlyVendor:
        """Return a client."""
        api = FlyApi(token=self._token, url=self._api_url)
        return FlyVendor(api, app=self.app, regions=self._regions, directory=self.boot_dir)

    def backend(self, known: SandboxInfo, handle: Any, boot: Boot | None = None) -> FlyBackend:
        """Return the backend of a sandbox."""
        return FlyBackend(self, known, handle, boot)

    def check(self, spec: SandboxSpec) -> None:
        """Refuse what cannot be made. Raises ConfigError or UnsupportedError."""
        super().check(spec)
        size_of(spec)

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        """Return where things are inside, and the port of the guest."""
        return replace(super().layout(spec), port=port_of(spec.labels), address=self._address)

    async def prepare_app(self, organization: str) -> PreparedApp:
        """Make the app and its addresses, where they are missing. See ``agenthost fly init``."""
        url = self.url or f"https://{self.app}.fly.dev"
        return await prepare_app(self.vendor.api, self.app, organization=organization, url=url)
