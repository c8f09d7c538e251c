"""The ``e2b`` provider: sandboxes in microVMs of E2B, or of whoever runs its open infrastructure."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Self, TypeVar

from agenthost.adapter.checks import refuse_fields, refuse_options
from agenthost.adapter.provider import GuestProvider
from agenthost.errors import ConfigError, SandboxNotFoundError, UnsupportedError
from agenthost.link.client import GuestSandbox
from agenthost.link.layout import GuestLayout
from agenthost.providers.e2b import baking, network
from agenthost.providers.e2b.backend import E2BBackend, to_info
from agenthost.providers.e2b.client import Client, refuse_trio
from agenthost.providers.e2b.creating import PlanLimitError, create_sandbox, find
from agenthost.providers.e2b.places import BOOT, HOME, MARK, OURS, SPOOL, WORKDIR, WORKDIR_MARK
from agenthost.sandbox import Backend, Boot, Capabilities, SandboxInfo
from agenthost.spec import DEFAULT_LIFETIME, HeaderInjection, Limits, SandboxSpec, require
from agenthost.supports import ImageRecipe

T = TypeVar("T")

_log = logging.getLogger("agenthost.providers.e2b")

_LONGEST = 24 * 3600.0  # seconds: what the largest plan allows
_PUBLIC = "public_ports"


class E2BProvider(GuestProvider):
    """Sandboxes at E2B, through the vendor's own client. On asyncio alone, which is what that client knows.

    Args:
        api_key: None is ``E2B_API_KEY``.
        domain: Of another installation; None is ``E2B_DOMAIN``, else E2B's own.
        api_url: Its control plane, where the domain does not tell it.
        sandbox_url: The way to its sandboxes, likewise.
        cpu: Cores of the templates that ``build`` makes; E2B gives sizes to templates, not to sandboxes.
        memory_mib: Their memory.
        free_disk_mib: Their disk space beyond what the template fills.
        secret: See GuestProvider.
        limits: See GuestProvider.

    Raises:
        MissingExtraError: The vendor's package is not installed.
        MissingCredentialError: There is no key.
    """

    name = "e2b"
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

    def __init__(
        self,
        *,
        api_key: str | None = None,
        domain: str | None = None,
        api_url: str | None = None,
        sandbox_url: str | None = None,
        cpu: int = baking.CPU,
        memory_mib: int = baking.MEMORY_MIB,
        free_disk_mib: int = baking.DISK_MIB,
        secret: str | bytes | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(secret=secret, limits=limits)
        self._client = Client(api_key=api_key, domain=domain, api_url=api_url, sandbox_url=sandbox_url)
        self._size = baking.Size(cpu, memory_mib, free_disk_mib)
        self._longest: float | None = None  # seconds, when E2B has said so
        self._baked: str | None = None
        self._has_warned = False

    async def connect(self) -> Self:
        """Open the provider. Raises UnsupportedError on trio. See GuestProvider.connect."""
        refuse_trio()
        return await super().connect()

    def check(self, spec: SandboxSpec) -> None:
        """Refuse what cannot be made. Raises ConfigError or UnsupportedError."""
        refuse_trio()
        refuse_fields(spec, self.name, "region")
        refuse_options(spec, self.name, (_PUBLIC,))
        if not isinstance(spec.provider_options.get(_PUBLIC, False), bool):
            raise ConfigError(f"provider_options[{_PUBLIC!r}] must be true or false")
        if spec.max_lifetime is not None and spec.max_lifetime > (self._longest or _LONGEST):
            hours = (self._longest or _LONGEST) / 3600
            raise UnsupportedError(
                f"max_lifetime={spec.max_lifetime:g}: E2B allows {hours:g} hours at most"
                + ("" if self._longest is None else " on this account's plan")
            )
        for name in spec.labels:
            if name in (*OURS, WORKDIR_MARK):
                raise ConfigError(f"label {name!r} is agenthost's own")
        self._check_size(spec)
        network.check_network(spec)

    def check_headers(self, headers: Sequence[HeaderInjection]) -> None:
        """Refuse headers that E2B's proxy cannot add. See SupportsHeaderInjection."""
        network.check_headers(headers)

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        """Tell where things are inside; of a sandbox that is there, its labels say it."""
        return GuestLayout(
            workdir=spec.workdir or spec.labels.get(WORKDIR_MARK, WORKDIR),
            home=HOME,
            spool_dir=SPOOL,
            boot_dir=BOOT,
            python=f"{BOOT}/python",
            site_dirs=(f"{BOOT}/site",),
            isolation="microvm",
            user_is_root=False,
        )

    async def create(
        self,
        spec: SandboxSpec,
        *,
        agent_id: str | None = None,
        needs_sdk: bool = False,
        on_progress: Callable[[str], object] | None = None,
    ) -> GuestSandbox:
        """Make a sandbox. See GuestProvider.create.

        Raises:
            BootstrapError: The template lacks what an agent needs.
        """
        make = partial(super().create, agent_id=agent_id, needs_sdk=needs_sdk, on_progress=on_progress)
        return await self._within_plan(spec, make)

    async def launch(self, spec: SandboxSpec, *, agent_id: str) -> str:
        """Make a sandbox that starts an agent. See GuestProvider.launch."""
        return await self._within_plan(spec, partial(super().launch, agent_id=agent_id))

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Make a sandbox of its template."""
        template = spec.image or await self._default_template()
        if template == baking.DEFAULT_BASE and (spec.cpu or spec.memory_mib or spec.disk_mib):
            raise UnsupportedError("cpu, memory_mib, disk_mib: no template was baked yet: agenthost bake e2b")
        public = bool(spec.provider_options.get(_PUBLIC, False))
        made = await create_sandbox(self._client, spec, template, public=public)
        known = SandboxInfo(
            id=made.sandbox_id,
            name=spec.name or "",
            provider=self.name,
            state="running",
            labels=spec.labels,
            isolation="microvm",
        )
        return E2BBackend(self._client, known, made, boot)

    async def reach(self, sandbox_id: str) -> Backend:
        """Return a sandbox that is there; a paused one stays so."""
        async with self._client.asking(f"asking after sandbox {sandbox_id}"):
            told = await (await self._client.sandboxes()).get_info(sandbox_id)
        return E2BBackend(self._client, to_info(told), None)

    async def list(self, labels: Mapping[str, str] | None = None) -> AsyncGenerator[SandboxInfo]:
        """Yield our sandboxes of this account, newest first."""
        wanted = {**(labels or {}), MARK: self.name}
        async for told in find(self._client, wanted, order="desc"):
            try:
                yield to_info(told)
            except SandboxNotFoundError:
                continue  # somebody else's, with a label of ours

    async def build(
        self, recipe: ImageRecipe, *, force: bool = False, on_progress: Callable[[str], object] | None = None
    ) -> str:
        """Return the template of a recipe. See SupportsImages.build.

        A base is the name of a template, or ``image:`` and an image of a registry. It needs Python 3.10 with
        pip, bash and glibc 2.26.
        """
        refuse_trio()
        return await baking.bake(
            self._client, recipe, self._size, force=force, report=on_progress or (lambda _: None)
        )

    def _check_size(self, spec: SandboxSpec) -> None:
        """A sandbox has its template's size, which is known of our own templates alone."""
        size = self._size
        sizes = {"cpu": size.cpu, "memory_mib": size.memory_mib, "disk_mib": size.free_disk_mib}
        for name, ours in sizes.items():
            wanted = getattr(spec, name)
            if wanted is not None and (wanted > ours or spec.image is not None):
                raise UnsupportedError(
                    f"{name}={wanted!r}: an E2B sandbox has the size of its template. Make one: "
                    f"E2BProvider(cpu=..., memory_mib=..., free_disk_mib=...).build(...), without image="
                )

    async def _default_template(self) -> str:
        """Return our own template, E2B's where none was baked yet."""
        if self._baked is None:
            name = baking.template_name(ImageRecipe(), self._size)
            if await baking.is_ready(self._client, name):
                self._baked = f"{name}:{baking.READY}"
            elif not self._has_warned:
                self._has_warned = True
                _log.warning(
                    "no template was baked for this SDK: sandboxes begin as E2B's 'base', which has less "
                    "memory than the SDK wants, and install it. Make one: agenthost bake e2b"
                )
        return self._baked or baking.DEFAULT_BASE

    async def _within_plan(self, spec: SandboxSpec, make: Callable[[SandboxSpec], Awaitable[T]]) -> T:
        """Make one whose lifetime, where nobody has said it, is not above the plan's limit."""
        require("spec", spec, SandboxSpec, "a SandboxSpec")
        self.check(spec)
        if spec.max_lifetime is None and self._longest is not None:
            spec = replace(spec, max_lifetime=min(self._longest, DEFAULT_LIFETIME))
        try:
            return await make(spec)
        except PlanLimitError as exc:
            if spec.max_lifetime is not None or exc.hours * 3600 >= DEFAULT_LIFETIME:
                raise
            self._longest = exc.hours * 3600
            _log.warning(
                "sandboxes end after %g hours: that is what the plan of this account allows", exc.hours
            )
        return await make(replace(spec, max_lifetime=self._longest))
