"""Find and make images at Modal. Imports the vendor's client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import modal
import modal.exception

from agenthost.adapter.bake import BakePlan
from agenthost.errors import AgentHostError, ConfigError, ProviderError, SandboxNotFoundError
from agenthost.providers.modal.client import ModalVendor

_ID = "im-"
_NAME = "agenthost-baked"
_OWN = "python "  # with a version: Modal's own image


class ModalImages:
    """The images of a workspace. See Images. Their ids begin with ``im-``.

    Args:
        vendor: Modal's client.
    """

    def __init__(self, vendor: ModalVendor) -> None:
        self._vendor = vendor

    async def find(self, plan: BakePlan) -> str | None:
        """Return the id of the image of a plan. See Images."""
        client, app, name = await self._vendor.client(), await self._vendor.app(), _name(plan)
        image = modal.Image.from_name(name, environment_name=self._vendor.settings.environment, client=client)
        try:
            await self._vendor.repeat(
                f"looking for the image {name}", self._vendor.times.call, lambda: image.build.aio(app)
            )
        except SandboxNotFoundError:
            return None
        return image.object_id

    async def prepare(self, image: str | None) -> str:
        """Return the id of an image, built now: else Modal builds it within the call that makes a sandbox.

        Args:
            image: An id, or a registry's name for an image; None is Modal's own with the provider's Python.

        Raises:
            ConfigError: There is no such image.
        """
        if image is None:
            return (await self._built(self._base(None), "the default image")).object_id
        if image.startswith(_ID):
            client = await self._vendor.client()
            return (await self._built(modal.Image.from_id(image, client=client), f"image {image}")).object_id
        # An entry point of the image's own would get our main program as its arguments.
        return (await self._built(self._base(image).entrypoint([]), f"image {image!r}")).object_id

    async def build(self, plan: BakePlan, *, force: bool, report: Callable[[str], object]) -> str:
        """Build the image of a plan and name it. See Images."""
        is_default = plan.base.startswith(_OWN)
        base = self._base(None if is_default else plan.base, force=force)
        # Each step is a layer of its own, built before the next begins: Modal reports no other progress. The
        # next stands on its id: Modal's client would build a forced layer again together with what stands on
        # it.
        report(f"getting {plan.base}")
        image = await self._built(base, f"the base {plan.base!r}")
        client = await self._vendor.client()
        for what, step in zip(
            (f"installing claude-agent-sdk {plan.sdk}", "compiling it"), plan.steps, strict=True
        ):
            report(what)
            layer = modal.Image.from_id(image.object_id, client=client).run_commands(step, force_build=force)
            image = await self._built(layer, f"the image ({what})")
        name, environment = _name(plan), self._vendor.settings.environment
        await self._vendor.repeat(
            f"naming the image {name}",
            self._vendor.times.call,
            lambda: image.publish.aio(name, environment_name=environment, client=client),
        )
        return image.object_id

    async def remove(self, plan: BakePlan) -> None:
        """Do nothing: what a failed build leaves has no name, and is never found."""

    def _base(self, base: str | None, *, force: bool = False) -> modal.Image:
        if base is None:
            return modal.Image.debian_slim(python_version=self._vendor.settings.python)
        if base.startswith(_ID):
            raise ConfigError(f"base {base!r}: give a registry's name for it, not an image of Modal's")
        # Its keywords are typed in part.
        image: modal.Image = cast("Any", modal.Image).from_registry(base, force_build=force)
        return image

    async def _built(self, image: modal.Image, what: str) -> modal.Image:
        app = await self._vendor.app()
        try:
            # Twice is once: Modal finds an image by what it is made of.
            await self._vendor.repeat(
                f"building {what}", self._vendor.times.build, lambda: image.build.aio(app)
            )
        except SandboxNotFoundError as error:
            raise ConfigError(f"Modal has no {what}") from error
        except ProviderError as error:
            if isinstance(error.__cause__, modal.exception.ImageBuildError):
                raise ProviderError(f"{error}. What was printed: {await self._printed(image)}") from error
            raise
        return image

    async def _printed(self, image: modal.Image) -> str:
        async def tail() -> list[str]:
            return [one.message.rstrip() async for one in image.logs.tail.aio(entries=30)]

        try:
            lines = await self._vendor.once("reading what a build printed", self._vendor.times.call, tail)
        except AgentHostError:
            return "Modal does not report it"
        return "\n".join(lines).strip()[-2000:] or "nothing"


def _name(plan: BakePlan) -> str:
    return f"{_NAME}:{plan.digest}"
