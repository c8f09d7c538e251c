"""The ``docker`` provider: sandboxes in containers of an engine on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from agenthost.adapter.checks import refuse_options
from agenthost.adapter.provider import GuestProvider
from agenthost.errors import ConfigError, SandboxNotFoundError, UnsupportedError
from agenthost.link.layout import GuestLayout
from agenthost.providers.docker import labels as marks
from agenthost.providers.docker import paths
from agenthost.providers.docker.address import Address, find_address
from agenthost.providers.docker.backend import CarrierName, DockerBackend, remove, to_info
from agenthost.providers.docker.baking import bake
from agenthost.providers.docker.bounds import LIMITS
from agenthost.providers.docker.builders import find_builders
from agenthost.providers.docker.container import check_container, check_engine
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.errors import EngineError
from agenthost.providers.docker.images import find_image
from agenthost.providers.docker.making import make_container
from agenthost.sandbox import Backend, Boot, Capabilities, SandboxInfo
from agenthost.spec import Limits, SandboxSpec
from agenthost.supports import ImageRecipe

_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")


class DockerProvider(GuestProvider):
    """Sandboxes in hardened containers, with no network unless asked for.

    Args:
        host: The engine's address, ``unix:///path`` or ``tcp://127.0.0.1:port``; None is DOCKER_HOST, else
            the usual socket. podman serves the same API.
        carrier: How the host reaches the guest. ``stdio`` is a program beside it, whose streams the engine
            carries; ``socket`` its unix socket in a volume, which only root on the engine's machine reaches.
        secret: See GuestProvider.
        limits: See GuestProvider.
    """

    name = "docker"
    capabilities = Capabilities(
        isolation="namespaces",
        networks=frozenset({"none", "open"}),
        default_network="none",
        limits=LIMITS,
        mounts=True,
        images=True,
        snapshot=True,
    )

    def __init__(
        self,
        *,
        host: str | None = None,
        carrier: CarrierName = "stdio",
        secret: str | bytes | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(secret=secret, limits=limits)
        if carrier not in ("stdio", "socket"):
            raise ConfigError(f"carrier={carrier!r}: known are 'stdio' and 'socket'")
        self._carrier: CarrierName = carrier
        self._engine = Engine(find_address(host))
        # What still listens to its container, by name: the sandbox may hold another backend around it.
        self._starting: WeakValueDictionary[str, DockerBackend] = WeakValueDictionary()

    @property
    def address(self) -> Address:
        """Where the engine is."""
        return self._engine.address

    def check(self, spec: SandboxSpec) -> None:
        """Refuse what no engine can do. Raises ConfigError or UnsupportedError."""
        check_container(spec, here=self._engine.address.path is not None)
        refuse_options(spec, self.name, ("tmp_mib",))
        for key, value in spec.provider_options.items():
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                raise ConfigError(
                    f"provider_options[{key!r}] is {value!r}; it must be a whole number above 0"
                )

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        """Tell where things are in the sandbox's image, which its labels say."""
        site = spec.labels.get(marks.SITE, "")
        return GuestLayout(
            workdir=spec.labels.get(marks.WORKDIR, paths.WORKDIR),
            home=paths.HOME,
            spool_dir=paths.SPOOL,
            boot_dir=paths.BOOT,
            python=spec.labels.get(marks.PYTHON, "python3"),
            site_dirs=(site,) if site else (),
            isolation="namespaces",
            user_is_root=False,
            agent_uid=paths.UID,
        )

    async def resolve(self, spec: SandboxSpec) -> SandboxSpec:
        """Find the image, and add what is in it as labels, for ``layout``.

        Raises:
            BootstrapError: The image lacks what an agent needs, or none was baked yet.
        """
        facts = await self._engine.facts()
        check_engine(spec, facts)
        if self._carrier == "socket":
            self._check_reach(facts)
        image = await find_image(self._engine, spec.image, spec.workdir or paths.WORKDIR)
        return replace(spec, image=image.id, labels={**spec.labels, **image.labels})

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Make and start its container."""
        tmp_mib = spec.provider_options.get("tmp_mib")
        assert tmp_mib is None or isinstance(tmp_mib, int)
        assert spec.image is not None
        backend = await make_container(
            self._engine, spec, boot, spec.image, carrier=self._carrier, tmp_mib=tmp_mib
        )
        self._starting[backend.name] = backend
        return backend

    async def came_up(self, name: str) -> None:
        """Stop listening to what the container prints."""
        if (backend := self._starting.pop(name, None)) is not None:
            await backend.settle()

    async def reach(self, sandbox_id: str) -> Backend:
        """Return a sandbox that is there; one that stands still can be ended."""
        gone = SandboxNotFoundError(f"the container engine has no sandbox {sandbox_id!r}")
        if not _ID.match(sandbox_id):
            raise gone
        try:
            told = await self._engine.ask("GET", f"/containers/{sandbox_id}/json")
        except EngineError as exc:
            if exc.status == 404:
                raise gone from exc
            raise
        return DockerBackend(self._engine, told, carrier=self._carrier)

    async def list(self, labels: Mapping[str, str] | None = None) -> AsyncGenerator[SandboxInfo]:
        """Yield the engine's sandboxes, newest first.

        One that has ended is among them only when its engine could not take it away, since it died itself.
        """
        wanted = {marks.PROVIDER: self.name, marks.KIND: "sandbox", **marks.of_spec(labels or {})}
        query = {"all": True, "filters": {"label": marks.as_filter(wanted)}}
        found: list[dict[str, Any]] = await self._engine.ask("GET", "/containers/json", query=query)
        # podman's order is another.
        ours = [one for one in found if marks.has_all(one.get("Labels"), wanted)]
        for one in sorted(ours, key=lambda one: float(one["Labels"][marks.CREATED]), reverse=True):
            try:
                info = to_info(await self._engine.ask("GET", f"/containers/{one['Id']}/json"))
            except EngineError as exc:
                if exc.status != 404:
                    raise
                continue  # it has just ended
            yield info

    async def build(
        self, recipe: ImageRecipe, *, force: bool = False, on_progress: Callable[[str], object] | None = None
    ) -> str:
        """Return the image of a recipe. See SupportsImages.build."""
        await self._engine.facts()
        return await bake(self._engine, recipe, force=force, report=on_progress or (lambda _: None))

    def builders(self) -> AsyncGenerator[SandboxInfo]:
        """Yield the containers that images are made in now. See SupportsBuilders."""
        return find_builders(self._engine)

    async def remove_builder(self, builder_id: str) -> None:
        """Remove one of these. Idempotent."""
        await remove(self._engine, builder_id)

    async def close_clients(self) -> None:
        """Let go of the engine."""
        await self._engine.aclose()

    def _check_reach(self, facts: Mapping[str, object]) -> None:
        volumes = os.path.join(str(facts.get("DockerRootDir", "")), "volumes")
        if self._engine.address.path is None or not os.access(volumes, os.X_OK):
            raise UnsupportedError(
                f"carrier='socket': this process cannot look into the engine's volumes ({volumes}); "
                "only root on the engine's own machine can. Use carrier='stdio'"
            )
