"""The ``modal`` provider: sandboxes at Modal, over its own client."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self

from agenthost.adapter.provider import GuestProvider
from agenthost.errors import ConfigError, ProviderError, SandboxNotFoundError
from agenthost.link.layout import GuestLayout
from agenthost.providers.modal import asked, paths, tags
from agenthost.providers.modal.settings import APP, PYTHON, Times, find_settings, refuse_trio
from agenthost.sandbox import Backend, Boot, Capabilities, SandboxInfo
from agenthost.spec import HeaderInjection, Limits, SandboxSpec
from agenthost.supports import ImageRecipe

if TYPE_CHECKING:
    from agenthost.providers.modal.account import Account

_ID = re.compile(r"sb-[A-Za-z0-9]+\Z")


class ModalProvider(GuestProvider):
    """Sandboxes at Modal. Works on asyncio alone, as Modal's client does.

    Args:
        token_id: Of the credential; None is MODAL_TOKEN_ID.
        token_secret: None is MODAL_TOKEN_SECRET.
        app: Modal's app that the sandboxes belong to; made where it is not there.
        environment: Modal's environment; None is MODAL_ENVIRONMENT, else the workspace's default.
        server_url: Of Modal's API; None is MODAL_SERVER_URL, else Modal's own.
        python: Version of Python in the default image and in what is baked.
        runtime: What keeps sandboxes apart: ``gvisor``, or ``vm``, a machine of its own.
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
        if runtime not in ("gvisor", "vm"):
            raise ConfigError(f"runtime={runtime!r}: known are 'gvisor' and 'vm'")
        self.times = times or Times()
        self.capabilities = replace(self.capabilities, isolation=tags.isolation_of(runtime))
        self._settings = find_settings(
            token_id=token_id,
            token_secret=token_secret,
            app=app,
            environment=environment,
            server_url=server_url,
            python=python,
            runtime=runtime,
        )
        self._made: Account | None = None
        self._closed = False

    async def connect(self) -> Self:
        """Open the provider. Raises UnsupportedError on trio. See GuestProvider.connect."""
        refuse_trio()
        return await super().connect()

    def check(self, spec: SandboxSpec) -> None:
        """Refuse what Modal cannot do. Raises ConfigError or UnsupportedError."""
        asked.check_spec(spec)

    def check_headers(self, headers: Sequence[HeaderInjection]) -> None:
        """Refuse headers that Modal cannot add. See SupportsHeaderInjection.

        A secret is text with ``${NAME/KEY}`` in it: what Modal's secret NAME has as KEY.
        """
        asked.replacements_of(headers)

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        """Tell where things are inside."""
        return GuestLayout(
            workdir=spec.workdir or spec.labels.get(tags.WORKDIR, paths.WORKDIR),
            home=paths.HOME,
            spool_dir=paths.SPOOL,
            boot_dir=paths.BOOT,
            python=f"{paths.BOOT}/python",
            site_dirs=(f"{paths.BOOT}/site",),
            isolation=self.capabilities.isolation,
            user_is_root=True,
        )

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Make a sandbox, in which nothing of ours is yet."""
        from agenthost.providers.modal.making import make_sandbox

        return await make_sandbox(self._account(), spec, boot)

    async def reach(self, sandbox_id: str) -> Backend:
        """Return a sandbox that runs."""
        from agenthost.providers.modal.backend import ModalBackend, is_ours

        gone = SandboxNotFoundError(
            f"Modal has no sandbox {sandbox_id!r} that runs and is one of agenthost's"
        )
        account = self._account()
        if not _ID.match(sandbox_id):
            raise gone
        sandbox = await account.by_id(sandbox_id)
        if sandbox.returncode is not None:
            raise gone
        labels = await account.tags(sandbox)
        if not is_ours(labels):
            raise gone
        return ModalBackend(account, sandbox, labels)

    async def list(self, labels: Mapping[str, str] | None = None) -> AsyncGenerator[SandboxInfo]:
        """Yield the app's sandboxes that run, newest first."""
        from agenthost.providers.modal.backend import is_ours, to_info

        account = self._account()
        found: list[SandboxInfo] = []
        for sandbox in await account.with_tags(labels or {}):
            try:
                told = await account.tags(sandbox)
            except SandboxNotFoundError:
                continue  # it has just ended
            if is_ours(told):
                found.append(to_info(sandbox.object_id, told))
        # Modal's order is that of creation, too; ours must not depend on it.
        for info in sorted(found, key=lambda one: one.created_at or 0, reverse=True):
            yield info

    async def build(
        self, recipe: ImageRecipe, *, force: bool = False, on_progress: Callable[[str], object] | None = None
    ) -> str:
        """Return the image of a recipe. See SupportsImages.build."""
        from agenthost.providers.modal.images import bake

        return await bake(self._account(), recipe, force=force, report=on_progress or (lambda _: None))

    async def close_clients(self) -> None:
        """Close the client, for good. Ends no sandbox."""
        self._closed = True
        if self._made is not None:
            await self._made.aclose()

    def _account(self) -> Account:
        from agenthost.providers.modal.account import Account

        refuse_trio()
        if self._closed:
            raise ProviderError("the modal provider is closed: open another one")
        if self._made is None:
            self._made = Account(self._settings, self.times)
        return self._made
