"""Snapshots that have the SDK, each found by the name of the sandbox that it was taken of."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio

from agenthost.adapter.bake import BakePlan, run_step
from agenthost.errors import AgentHostError, SandboxNotFoundError
from agenthost.providers.vercel.backend import until_running
from agenthost.providers.vercel.client import SANDBOXES, VercelVendor, create_body
from agenthost.spec import SandboxSpec

UNIVERSAL = "vercel/sandbox/universal:latest"  # Vercel's default: Ubuntu with Python, Node and git
_BUILDING = 40 * 60.0  # seconds that the machine lives; the smallest plan allows 45 minutes
_KEPT = 30 * 24 * 3600  # seconds that Vercel keeps the snapshot; its own default are 7 days
_SOON = 3600  # seconds; a snapshot that expires so soon is not begun with


class VercelImages:
    """The snapshots of a project. See Images.

    A sandbox that was stopped by its snapshot costs nothing, and its name is the only one that a snapshot
    has. A base is an image of Vercel's registry or the id of a snapshot, with Python 3.10, pip and bash.
    """

    def __init__(self, vendor: VercelVendor) -> None:
        self._vendor = vendor

    async def find(self, plan: BakePlan) -> str | None:
        """Return the snapshot of a plan. See Images."""
        query = {"project": self._vendor.project, "name": plan.name, "sortOrder": "desc"}
        doing, found = f"looking up snapshot {plan.name}", list[Any]()
        with suppress(SandboxNotFoundError):
            found = (await self._vendor.ask(doing, "GET", f"{SANDBOXES}/snapshots", query=query))["snapshots"]
        soon = (time.time() + _SOON) * 1000
        kept = [one for one in found if one["status"] == "created" and one.get("expiresAt", soon + 1) > soon]
        return str(kept[0]["id"]) if kept else None

    async def build(self, plan: BakePlan, *, force: bool, report: Callable[[str], object]) -> str:
        """Build the snapshot of a plan. See Images."""
        machine, again = "", "once more " if force else ""  # an earlier snapshot makes room: it has the name
        report(f"getting claude-agent-sdk {plan.sdk} {again}into snapshot {plan.name} on {plan.base}")
        await self.remove(plan)
        body = create_body(SandboxSpec(name=plan.name, image=plan.base), _BUILDING)
        try:
            with anyio.CancelScope(shield=True):  # a request that is cut off may be carried out later
                machine = await self._vendor.make(f"making the machine of {plan.name}", body)
            await until_running(self._vendor, machine)
            for step in plan.steps:
                argv = ["sudo", "-n", "bash", "-c", step]
                await run_step(await self._vendor.run(machine, argv, env={}), report)
            path, given = self._vendor.session_path(machine, "snapshot"), {"expiration": _KEPT * 1000}
            async with self._vendor.calls.bounded(f"keeping snapshot {plan.name}", within=300):
                made = await self._vendor.api.ask("POST", path, body=given)
            return str(made["snapshot"]["id"])
        except BaseException:
            with anyio.move_on_after(60, shield=True), suppress(AgentHostError):
                await self.remove(plan)
            raise

    async def remove(self, plan: BakePlan) -> None:
        """Remove the snapshot of a plan, and its sandbox."""
        with suppress(SandboxNotFoundError):
            await self._vendor.remove(plan.name, deleteOrphanSnapshots="true")

    async def prepare(self, image: str | None) -> str:
        """Return the image."""
        return image or UNIVERSAL
