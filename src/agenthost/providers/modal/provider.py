"""The ``modal`` provider: sandboxes at Modal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self

from agenthost.adapter.bake import BakePlan, bake_once, no_report, plan_bake
from agenthost.adapter.checks import require_extra
from agenthost.adapter.cloud import CloudProvider
from agenthost.errors import ConfigError, ProviderError
from agenthost.providers.modal import spec as modal_spec
from agenthost.providers.modal.settings import APP, PYTHON, Times, find_settings
from agenthost.sandbox import Boot, Capabilities, SandboxInfo
from agenthost.spec import HeaderInjection, Limits, SandboxSpec
from agenthost.supports import ImageRecipe

if TYPE_CHECKING:
    import modal

    from agenthost.providers.modal.backend import ModalBackend
    from agenthost.providers.modal.client import ModalVendor


class ModalProvider(CloudProvider["modal.Sandbox"]):
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
        times: Seconds that calls may take.
        secret: See GuestProvider.
        limits: See GuestProvider.
    """

    name = "modal"
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
    longest = float(modal_spec.LONGEST)
    options = (modal_spec.CLOUD, modal_spec.DOMAINS)
    label_rule = modal_spec.RULE

    def __init__(
        self,
        *,
        token_id: str | None = None,
        token_secret: str | None = None,
        app: str = APP,
        environment: str | None = None,
        server_url: str | None = None,
        python: str = PYTHON,
        runtime: Literal["gvisor", "vm"] = "gvisor",
        times: Times | None = None,
        secret: str | bytes | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(secret=secret, limits=limits)
        if runtime not in modal_spec.ISOLATIONS:
            raise ConfigError(f"runtime={runtime!r} is not a valid runtime: 'gvisor' and 'vm' are")
        require_extra("modal", "modal")
        self.times = times or Times()
        self.making = self.times.create + 30.0  # looking for a lost answer included
        self.capabilities = replace(self.capabilities, isolation=modal_spec.ISOLATIONS[runtime])
        self._settings = find_settings(
            token_id=token_id,
            token_secret=token_secret,
            app=app,
            environment=environment,
            server_url=server_url,
            python=python,
            runtime=runtime,
        )
        self._vendor: ModalVendor | None = None
        self._closed = False

    async def connect(self) -> Self:
        """Open the provider. See GuestProvider.connect."""
        self._closed = False
        return await super().connect()

    @property
    def vendor(self) -> ModalVendor:
        """Modal's client. Raises ProviderError when the provider is closed."""
        from agenthost.providers.modal.client import ModalVendor

        self.check_loop()
        if self._closed:
            raise ProviderError("the modal provider is closed: open another one")
        if self._vendor is None:
            self._vendor = ModalVendor(self._settings, self.times, self.boot_dir)
        return self._vendor

    def backend(
        self, known: SandboxInfo, handle: modal.Sandbox | None, boot: Boot | None = None
    ) -> ModalBackend:
        """Return the backend of a sandbox."""
        from agenthost.providers.modal.backend import ModalBackend

        return ModalBackend(self, known, handle, boot)

    def check(self, spec: SandboxSpec) -> None:
        """Refuse what Modal cannot do. Raises ConfigError or UnsupportedError."""
        super().check(spec)
        modal_spec.check_spec(spec)

    def check_headers(self, headers: Sequence[HeaderInjection]) -> None:
        """Refuse headers that Modal cannot add. See SupportsHeaderInjection.

        A secret is text with ``${NAME/KEY}`` in it: what Modal's secret NAME has as KEY.
        """
        modal_spec.replacements_of(headers)

    async def resolve(self, spec: SandboxSpec) -> SandboxSpec:
        """Fill in the image, what was baked where the spec names none, and what the sandbox is given."""
        from agenthost.providers.modal.image import find_baked, find_image

        vendor, image = self.vendor, None
        if spec.image is None:
            image = await find_baked(vendor, self.plan(ImageRecipe()))
        spec = replace(spec, image=image or await find_image(vendor, spec.image))
        return replace(spec, labels={**spec.labels, **modal_spec.given_labels(spec, self._settings.runtime)})

    async def build(
        self, recipe: ImageRecipe, *, force: bool = False, on_progress: Callable[[str], object] | None = None
    ) -> str:
        """Return the image of a recipe. See SupportsImages.build."""
        from agenthost.providers.modal.image import build_image, find_baked

        vendor, plan, report = self.vendor, self.plan(recipe), on_progress or no_report
        return await bake_once(
            f"of {plan.base}",
            find=lambda: find_baked(vendor, plan),
            build=lambda: build_image(vendor, plan, force=force, report=report),
            remove=None,  # what is not named is never found
            force=force,
            report=report,
        )

    def plan(self, recipe: ImageRecipe) -> BakePlan:
        """Return how the image of a recipe is made."""
        return plan_bake(recipe, default_base=f"python {self._settings.python}")

    async def close_clients(self) -> None:
        """Close the client. Ends no sandbox."""
        self._closed = True
        vendor, self._vendor = self._vendor, None
        if vendor is not None:
            await vendor.aclose()
