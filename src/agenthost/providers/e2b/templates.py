"""Make a template that has the SDK.

A template has its name from the moment a build is requested, whether the build ever ends or not: only a
template with the tag ``ready`` can be used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from agenthost.adapter.bake import BakePlan
from agenthost.errors import ConfigError, ProviderError
from agenthost.providers.e2b.client import E2BVendor

if TYPE_CHECKING:
    from e2b import BuildInfo

BASE = "base"  # E2B's own: Debian with Python, Node and git
IMAGE = "image:"  # before a base that is an image of a registry, not a template
_READY = "ready"
_LOOK_AGAIN = 0.5  # seconds; E2B reports on a build only when asked
_KEPT = 15  # last lines of a build, for an error


class E2BTemplates:
    """The templates of an account. See Images.

    A base is the name of a template, or ``image:`` and an image of a registry. It needs Python 3.10 with pip,
    bash and glibc 2.26.

    Args:
        vendor: E2B's client.
        size: What the vendor's build takes: E2B gives sizes to templates, not to sandboxes.
    """

    def __init__(self, vendor: E2BVendor, size: Mapping[str, Any]) -> None:
        self._vendor = vendor
        self._size = size

    async def find(self, plan: BakePlan) -> str | None:
        """Return the template of a plan. See Images."""
        async with self._vendor.calling(f"looking up template {plan.name}") as e2b:
            from e2b import NotFoundException

            try:
                tags = await e2b.AsyncTemplate.get_tags(plan.name)
            except Exception as exc:
                if isinstance(exc, NotFoundException) or getattr(exc, "status_code", None) in (403, 404):
                    return None
                raise
        return f"{plan.name}:{_READY}" if any(tag.tag == _READY for tag in tags) else None

    async def build(self, plan: BakePlan, *, force: bool, report: Callable[[str], object]) -> str:
        """Build the template of a plan. See Images."""
        report(f"getting claude-agent-sdk {plan.sdk} into template {plan.name} on {plan.base}")
        build: BuildInfo | None = None
        # Cancelled in the middle, the template could appear after it was removed. The call is bounded in
        # time.
        with anyio.CancelScope(shield=True):
            async with self._vendor.calling(f"building template {plan.name}") as e2b:
                steps: Any = e2b.AsyncTemplate()
                is_image = plan.base.startswith(IMAGE)
                begin = steps.from_image if is_image else steps.from_template
                steps = begin(plan.base.removeprefix(IMAGE))
                for step in plan.steps:
                    steps = steps.run_cmd(step, user="root")
                build = await e2b.AsyncTemplate.build_in_background(
                    steps, plan.name, skip_cache=force, **self._size
                )
        await anyio.lowlevel.checkpoint()
        assert build is not None
        await self._follow(build, plan, report)
        async with self._vendor.calling(f"marking template {plan.name}") as e2b:
            await e2b.AsyncTemplate.assign_tags(plan.name, _READY)
        return f"{plan.name}:{_READY}"

    async def remove(self, plan: BakePlan) -> None:
        """Remove the template of a plan."""
        async with self._vendor.calling(f"removing template {plan.name}") as e2b:
            # The client has no call of this name for templates, but this one removes both.
            await e2b.AsyncSandbox.delete_snapshot(plan.name)

    async def prepare(self, image: str | None) -> str:
        """Return the template."""
        return image or BASE

    async def _follow(self, build: BuildInfo, plan: BakePlan, report: Callable[[str], object]) -> None:
        seen, last = 0, list[str]()
        while True:
            async with self._vendor.calling(f"following the build of template {plan.name}") as e2b:
                status: Any = await e2b.AsyncTemplate.get_build_status(build, logs_offset=seen)
            for entry in status.log_entries:
                last = [*last[1 - _KEPT :], entry.message]
                report(entry.message)
            seen += len(status.log_entries)
            state = status.status.value
            # At most 100 lines come at once: the last ones may come after the end.
            if status.log_entries and state in ("ready", "error"):
                continue
            if state == "ready":
                return
            if state == "error":
                reason = status.reason.message if status.reason else "no reason was given"
                if "template" in reason.lower() and "not found" in reason.lower():
                    raise ConfigError(f"E2B has no template {plan.base!r}: {reason}")
                lines = "\n".join(last)
                raise ProviderError(f"template {plan.name} could not be built: {reason}\n{lines}")
            await anyio.sleep(_LOOK_AGAIN)
