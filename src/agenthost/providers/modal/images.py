"""Find and make images at Modal. Imports the vendor's client."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

import modal
import modal.exception

from agenthost.adapter.bake import BakePlan
from agenthost.errors import AgentHostError, ConfigError, ProviderError, SandboxNotFoundError
from agenthost.providers.modal.client import ModalVendor

_ID = "im-"
_OWN = "python "  # with a version: Modal's own image
_BUILDING = 1800.0  # seconds for one layer


class ModalImages:
    """The images of a workspace. See Images. Their ids begin with ``im-``.

    A base is ``python`` and a version, which is Modal's own, or an image of a registry.

    Args:
        vendor: Modal's client.
        default: The base of sandboxes that begin without a baked image.
    """

    def __init__(self, vendor: ModalVendor, default: str) -> None:
        self._vendor, self._default = vendor, default

    async def find(self, plan: BakePlan) -> str | None:
        """Return the id of the image of a plan. See Images."""
        client, app, name = await self._vendor.client(), await self._vendor.app(), _name(plan)
        image = modal.Image.from_name(name, environment_name=self._vendor.environment, client=client)
        with suppress(SandboxNotFoundError):
            await self._vendor.calls.repeated(f"looking for the image {name}", partial(image.build.aio, app))
            return image.object_id
        return None

    async def prepare(self, image: str | None) -> str:
        """Return the id of an image, built now: else Modal builds it within the call that makes a sandbox.

        Args:
            image: An id, or a base; None is the default.

        Raises:
            ConfigError: There is no such image.
        """
        known = image or self._default
        is_made = known.startswith(_ID)
        made = modal.Image.from_id(known, client=await self._vendor.client()) if is_made else _base(known)
        return (await self._built(made, f"image {known!r}")).object_id

    async def build(self, plan: BakePlan, *, force: bool, report: Callable[[str], object]) -> str:
        """Build the image of a plan and name it. See Images.

        Each step is a layer of its own, built before the next begins: Modal reports no other progress. The
        next stands on its id: Modal's client would build a forced layer again with what stands on it.
        """
        client, name, calls = await self._vendor.client(), _name(plan), self._vendor.calls
        report(f"getting {plan.base}")
        image = await self._built(_base(plan.base, force=force), f"the base {plan.base!r}")
        doing = (f"installing claude-agent-sdk {plan.sdk}", "compiling it")
        for what, step in zip(doing, plan.steps, strict=True):
            report(what)
            layer = modal.Image.from_id(image.object_id, client=client).run_commands(step, force_build=force)
            image = await self._built(layer, f"the image ({what})")
        publish = partial(image.publish.aio, name, environment_name=self._vendor.environment, client=client)
        await calls.repeated(f"naming the image {name}", publish)
        return image.object_id

    async def remove(self, plan: BakePlan) -> None:
        """Do nothing: what a failed build leaves has no name, and is never found."""

    async def _built(self, image: modal.Image, what: str) -> modal.Image:
        app, calls = await self._vendor.app(), self._vendor.calls
        try:
            # Twice is once: Modal finds an image by what it is made of.
            await calls.repeated(f"building {what}", partial(image.build.aio, app), within=_BUILDING)
        except SandboxNotFoundError as error:
            raise ConfigError(f"Modal has no {what}") from error
        except ProviderError as error:
            if not isinstance(error.__cause__, modal.exception.ImageBuildError):
                raise
            printed = "Modal does not report it"
            with suppress(AgentHostError):
                printed = await calls.once("reading what a build printed", partial(_printed, image))
            raise ProviderError(f"{error}. What was printed: {printed}") from error
        return image


def _base(base: str, *, force: bool = False) -> modal.Image:
    if base.startswith(_OWN):
        return modal.Image.debian_slim(python_version=base.removeprefix(_OWN))
    if base.startswith(_ID):
        raise ConfigError(f"base {base!r}: give a registry's name for it, not an image of Modal's")
    # Its keywords are typed in part.
    image: modal.Image = cast("Any", modal.Image).from_registry(base, force_build=force)
    return image.entrypoint([])  # one of the image's own would get our main program as its arguments


async def _printed(image: modal.Image) -> str:
    lines = [one.message.rstrip() async for one in image.logs.tail.aio(entries=30)]
    return "\n".join(lines).strip()[-2000:] or "nothing"


def _name(plan: BakePlan) -> str:
    return f"agenthost-baked:{plan.digest}"
