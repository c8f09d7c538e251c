"""Snapshots that have the SDK."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress

import anyio

from agenthost.adapter.bake import BakePlan
from agenthost.adapter.images import ImageGoneError
from agenthost.errors import AgentHostError
from agenthost.providers.daytona.client import DaytonaVendor

USER = "daytona"  # in Daytona's own snapshots, and in what is baked
# Daytona's own of the size that the SDK needs: the small one has a disk of 3 GiB.
DEFAULT = "daytona-medium"
BASE = "python:3.13-slim-bookworm"  # Daytona's own image has an SDK that is too old
_READY = "active"
_CLEANUP = 30.0  # seconds
# In an image of the vendor the user is there already, and has `sudo`.
_PEOPLE = (
    f"id -u {USER} || useradd --create-home --shell /bin/bash {USER}; "
    f"install -d -o {USER} -g {USER} /workspace"
)


class DaytonaImages:
    """The snapshots of an organization. See Images.

    A base is an image of a registry, with a tag other than ``latest``. It needs Python 3.10 with pip, bash
    and glibc 2.26.

    Args:
        vendor: Daytona's client.
        size: Of sandboxes: ``cpu`` in cores, ``memory_gib`` and ``disk_gib``. A snapshot has a size.
    """

    def __init__(self, vendor: DaytonaVendor, size: Mapping[str, int]) -> None:
        self._vendor = vendor
        self._size = dict(size)

    async def find(self, plan: BakePlan) -> str | None:
        """Return the snapshot of a plan, in whichever state but ready: None. See Images."""
        client, doing = await self._vendor.client(), f"looking up snapshot {plan.name}"
        with suppress(ImageGoneError):
            found = await self._vendor.calls.repeat(doing, lambda: client.snapshot.get(plan.name))
            return plan.name if found.state == _READY else None
        return None

    async def build(self, plan: BakePlan, *, force: bool, report: Callable[[str], object]) -> str:
        """Build the snapshot of a plan. See Images."""
        client, kit = await self._vendor.client(), self._vendor.kit
        again = "once more " if force else ""
        report(f"getting claude-agent-sdk {plan.sdk} {again}into snapshot {plan.name} on {plan.base}")
        await self.remove(plan)  # an earlier one has the name, or one that was not built to its end
        # As JSON: a line break in a step would end its instruction.
        steps = [json.dumps(["/bin/sh", "-c", step]) for step in (_PEOPLE, *plan.steps)]
        lines = ["USER root", *(f"RUN {step}" for step in steps)]
        lines += [f"USER {USER}", f"WORKDIR /home/{USER}"]
        params = kit.CreateSnapshotParams(
            name=plan.name,
            image=kit.Image.base(plan.base).dockerfile_commands(lines),
            resources=kit.Resources(**{name.removesuffix("_gib"): size for name, size in self._size.items()}),
            entrypoint=["sleep", "infinity"],
        )
        try:
            async with self._vendor.calls.bounded(f"building snapshot {plan.name}", within=None):
                await client.snapshot.create(params, on_logs=report, timeout=0)
        except BaseException:
            with anyio.move_on_after(_CLEANUP, shield=True), suppress(AgentHostError):
                await self.remove(plan)
            raise
        return plan.name

    async def remove(self, plan: BakePlan) -> None:
        """Remove the snapshot of a plan, where there is one."""
        client, doing = await self._vendor.client(), f"removing snapshot {plan.name}"
        with suppress(ImageGoneError):
            await self._vendor.calls.repeat(doing, lambda: client.snapshot.delete(plan.name))

    async def prepare(self, image: str | None) -> str:
        """Return the snapshot."""
        return image or DEFAULT
