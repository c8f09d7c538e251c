"""An adapter for a cloud whose images can hold the SDK."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from agenthost.adapter.bake import BakePlan, bake_once, plan_bake
from agenthost.adapter.cloud import AnyVendor, CloudProvider
from agenthost.adapter.dial_carrier import no_report
from agenthost.errors import ConfigError
from agenthost.sandbox import Backend, Boot
from agenthost.spec import SandboxSpec
from agenthost.supports import ImageRecipe

V = TypeVar("V", bound=AnyVendor)

_log = logging.getLogger("agenthost.adapter")


class ImageGoneError(ConfigError):
    """The vendor does not have the image, or no longer."""


class Images(Protocol):
    """The images of one account. Every call raises agenthost's errors only: see Calls."""

    async def find(self, plan: BakePlan) -> str | None:
        """Return what ``SandboxSpec.image`` takes; None where no image of the plan was built to its end."""
        ...

    async def build(self, plan: BakePlan, *, force: bool, report: Callable[[str], object]) -> str:
        """Build the image of a plan; mark it, as the last step, as one that ``find`` finds."""
        ...

    async def remove(self, plan: BakePlan) -> None:
        """Remove what a build that failed has left."""
        ...

    async def prepare(self, image: str | None) -> str:
        """Return the image to create a sandbox of. None: an image without the SDK, as none was baked."""
        ...


class ImagesProvider(CloudProvider[V]):
    """A CloudProvider that makes images: it has ``build``, and begins sandboxes as what was built.

    Attributes:
        default_base: The base of a recipe that names none.
        image_parts: What else makes one image differ from another, the size of its machine for instance.
            JSON.
    """

    default_base: str
    image_parts: Sequence[object] = ()
    _baked: str | None = None
    _has_warned = False

    @abstractmethod
    def images(self) -> Images:
        """Return the account's images."""

    def plan(self, recipe: ImageRecipe) -> BakePlan:
        """Return how the image of a recipe is made."""
        return plan_bake(recipe, default_base=self.default_base, parts=self.image_parts)

    async def baked(self) -> str | None:
        """Return the image that ``build`` made for the SDK of this host; None where there is none."""
        return await self.images().find(self.plan(ImageRecipe()))

    async def resolve(self, spec: SandboxSpec) -> SandboxSpec:
        """Fill in the image: what was baked for this SDK, where the spec names none."""
        if spec.image is None:
            if self._baked is None:
                self._baked = await self.baked()
            if self._baked is None and not self._has_warned:
                self._has_warned = True
                _log.warning(
                    "%s: no image was baked for this SDK: a sandbox for an agent installs the SDK when it "
                    "starts. Make one: agenthost bake %s",
                    self.name,
                    self.name,
                )
            spec = replace(spec, image=self._baked)
        return replace(spec, image=await self.images().prepare(spec.image))

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Make a sandbox, once. A baked image that the vendor no longer has counts as not baked."""
        try:
            return await super().make(spec, boot)
        except ImageGoneError:
            if spec.image is None or spec.image != self._baked:
                raise
        self._baked = None
        _log.warning(
            "%s: image %s has expired: a sandbox for an agent installs the SDK when it starts. Make one: "
            "agenthost bake %s",
            self.name,
            spec.image,
            self.name,
        )
        return await super().make(replace(spec, image=await self.images().prepare(None)), boot)

    async def build(
        self, recipe: ImageRecipe, *, force: bool = False, on_progress: Callable[[str], object] | None = None
    ) -> str:
        """Return the image of a recipe. See SupportsImages.build."""
        self.check_loop()
        images, plan, report = self.images(), self.plan(recipe), on_progress or no_report
        return await bake_once(
            plan.name,
            find=lambda: images.find(plan),
            build=lambda: images.build(plan, force=force, report=report),
            remove=lambda: images.remove(plan),
            force=force,
            report=report,
        )
