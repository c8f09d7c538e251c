"""The ``modal`` provider: sandboxes at Modal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from agenthost.adapter.checks import credential, require_extra
from agenthost.adapter.images import ImagesProvider
from agenthost.errors import ConfigError
from agenthost.providers.modal.headers import replacements_of
from agenthost.providers.modal.prices import PRICES
from agenthost.providers.modal.resources import ISOLATIONS, given_labels
from agenthost.providers.modal.spec import CREATING, OPTIONS, RULE, check_spec
from agenthost.sandbox import Boot, Capabilities, SandboxInfo
from agenthost.spec import Limits, SandboxSpec

if TYPE_CHECKING:
    from agenthost.providers.modal.backend import ModalBackend
    from agenthost.providers.modal.client import ModalVendor
    from agenthost.providers.modal.images import ModalImages


class ModalProvider(ImagesProvider["ModalVendor"]):
    """Sandboxes at Modal, by its own client, which works on asyncio alone.

    Args:
        token_id: Of the credential; None is MODAL_TOKEN_ID.
        token_secret: None is MODAL_TOKEN_SECRET.
        app: Modal's app that the sandboxes belong to; made where it is missing.
        environment: Modal's environment; None is MODAL_ENVIRONMENT, else the workspace's default.
        server_url: Of Modal's API; None is MODAL_SERVER_URL, else Modal's own.
        python: Version of Python in the default image and in what is baked. Modal's image builder of the
            workspace must have it: 3.13 needs builder 2024.10 or newer.
        runtime: What isolates sandboxes: ``gvisor``, or ``vm``, a machine of its own.
        secret: See GuestProvider.
        limits: See GuestProvider.
    """

    name = "modal"
    prices = PRICES
    capabilities = Capabilities(
        isolation="gvisor",
        networks=frozenset({"none", "open"}),
        default_network="open",
        images=True,
        ports=True,
        snapshot=True,
        header_injection=True,
    )
    asyncio_only = True
    home = "/root"
    user_is_root = True
    longest = 24 * 3600.0
    making = CREATING + 30  # looking for a lost answer included
    options = OPTIONS
    label_rule = RULE
    check_headers = staticmethod(replacements_of)  # see SupportsHeaderInjection

    def __init__(
        self,
        *,
        token_id: str | None = None,
        token_secret: str | None = None,
        app: str = "agenthost",
        environment: str | None = None,
        server_url: str | None = None,
        # Modal's client would take the host's own, which the image builder may not have.
        python: str = "3.13",
        runtime: Literal["gvisor", "vm"] = "gvisor",
        secret: str | bytes | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(secret=secret, limits=limits)
        if runtime not in ISOLATIONS:
            raise ConfigError(f"runtime={runtime!r} is not a valid runtime: 'gvisor' and 'vm' are")
        require_extra("modal", "modal")
        found_id, found_secret = credential(
            "modal", token_id=(token_id, "MODAL_TOKEN_ID"), token_secret=(token_secret, "MODAL_TOKEN_SECRET")
        )
        self._account = ((found_id, found_secret), app, environment, server_url)
        self._runtime = runtime
        self.capabilities = replace(self.capabilities, isolation=ISOLATIONS[runtime])
        self.default_base = f"python {python}"

    def make_vendor(self) -> ModalVendor:
        """Return a client."""
        from agenthost.providers.modal.client import ModalVendor

        return ModalVendor(*self._account, self.boot_dir)

    def backend(self, known: SandboxInfo, handle: Any, boot: Boot | None = None) -> ModalBackend:
        """Return the backend of a sandbox."""
        from agenthost.providers.modal.backend import ModalBackend

        return ModalBackend(self, known, handle, boot)

    def check(self, spec: SandboxSpec) -> None:
        """Refuse what Modal cannot do. Raises ConfigError or UnsupportedError."""
        super().check(spec)
        check_spec(spec)

    async def resolve(self, spec: SandboxSpec) -> SandboxSpec:
        """Fill in the image, and as labels what the sandbox is given."""
        spec = await super().resolve(spec)
        return replace(spec, labels={**spec.labels, **given_labels(spec, self._runtime)})

    def images(self) -> ModalImages:
        """Return the workspace's images."""
        from agenthost.providers.modal.images import ModalImages

        return ModalImages(self.vendor, self.default_base)
