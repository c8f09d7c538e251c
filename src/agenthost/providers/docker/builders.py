"""The containers that images are made in now, for who looks for what dead hosts have left."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from agenthost.owners import OWNER_LABEL
from agenthost.providers.docker import labels
from agenthost.providers.docker.engine import Engine
from agenthost.sandbox import SandboxInfo


async def find_builders(engine: Engine) -> AsyncGenerator[SandboxInfo]:
    """Yield them with their owners. None is told as ended: one that has run is kept until its image is."""
    wanted = {labels.PROVIDER: "docker", labels.KIND: "builder"}
    query = {"all": True, "filters": {"label": labels.as_filter(wanted)}}
    found: list[dict[str, Any]] = await engine.ask("GET", "/containers/json", query=query)
    for one in found:
        own: dict[str, str] = one.get("Labels") or {}
        if not labels.has_all(own, wanted):
            continue  # podman's filter takes more
        yield SandboxInfo(
            id=str(one["Id"]),
            name=own[labels.NAME],
            provider="docker",
            state="running" if one.get("State") == "running" else "starting",
            labels={OWNER_LABEL: own.get(labels.OWNER, "")},
            created_at=float(own[labels.CREATED]),
            expires_at=float(own[labels.END]),
            isolation="namespaces",
        )
