"""Snapshots: what a sandbox has on its disk, as a template that outlives it."""

from __future__ import annotations

import re
from typing import Any

from agenthost.errors import AgentHostError
from agenthost.testing.emulators.base.archive import pack
from agenthost.testing.emulators.base.faults import Faults
from agenthost.testing.emulators.base.rest import Asked, Refusal
from agenthost.testing.emulators.e2b.about import REFUSED
from agenthost.testing.emulators.e2b.boxes import HOME, WORKDIR, E2BBox
from agenthost.testing.emulators.e2b.templates import TEAM, Templates

_NAME = re.compile(r"(?:([a-z0-9_-]+)/)?([a-z0-9_-]+)(?::([a-z0-9_.-]+))?\Z")
_KEPT = (HOME, WORKDIR)  # machines keep nothing else


async def take(box: E2BBox, templates: Templates, faults: Faults, asked: Asked) -> dict[str, Any]:
    """Keep a sandbox's files, and return what is told of them.

    A fault of the call ``snapshotting ID`` with ``hold`` keeps it standing still.

    Raises:
        Refusal: There is no such name, or more is to be kept than this emulator can.
    """
    name = _parsed(asked.text("name")) if "name" in asked.fields else None
    gone = Refusal(404, f"sandbox '{box.id}' doesn't exist or you don't have access to it")
    if box.state != "running":
        raise gone
    if asked.fields.get("memory") is not False:  # it is kept unless the client says otherwise
        raise Refusal(501, REFUSED["memory"])
    if name is not None and templates.is_fixed(name[0]):
        raise Refusal(501, f"{REFUSED['fixed']}: {name[0]!r}")

    async def keep() -> bytes:
        await faults.strike(f"snapshotting {box.id}")
        return await pack(box.machine, _KEPT)

    try:
        files = await box.stand_still_for(keep)
    except AgentHostError:
        raise gone from None
    template = templates.keep(box, files, name)
    if name is None:
        return {"snapshotID": f"{template.id}:default", "names": []}
    return {"snapshotID": f"{TEAM}/{name[0]}:{name[1]}", "names": [f"{TEAM}/{name[0]}"]}


def _parsed(name: str) -> tuple[str, str]:
    found = _NAME.match(name.strip().lower())
    if found is None:
        raise Refusal(400, f"Invalid name: invalid template ID: {name}")
    team, alias, tag = found.groups()
    if team not in (None, TEAM):
        raise Refusal(400, f"namespace '{team}' must match your team '{TEAM}'")
    return alias, tag or "default"
