"""Keep a sandbox's files as an image."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator

from agenthost.errors import ConfigError
from agenthost.providers.docker import labels, paths
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.fitting import commit, own_config
from agenthost.providers.docker.images import inspect, labels_of
from agenthost.providers.docker.one_off import one_off

_REPOSITORY = "agenthost/snapshot"
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}\Z")


async def snapshot(engine: Engine, container: str, image: str, workdir: str, name: str | None) -> str:
    """Return an image of a sandbox's image and what lies in its working and home directory now.

    The rest of its file system is read-only or in memory. A volume takes what the image has in its place,
    so a sandbox of that image begins where this one stands. A program that writes meanwhile may be caught
    in the middle of it.

    Raises:
        ConfigError: The name is no tag of an image.
        EngineError: The sandbox has ended, or the engine failed.
    """
    tag = name or secrets.token_hex(8)
    if not _TAG.match(tag):
        raise ConfigError(f"snapshot {tag!r}: a tag has letters, digits, '_', '.' and '-', at most 128")
    told = await inspect(engine, image)
    if told is None:
        raise ConfigError(f"the image of this sandbox, {image}, was removed: nothing can stand on it")
    found = labels_of(told)
    inside = {name_: found[name_] for name_ in labels.OF_IMAGE if name_ in found}
    inside[labels.PROVIDER] = "docker"
    async with one_off(engine, image, ["true"]) as copy:
        for directory in (workdir, paths.HOME):
            # The archive's one entry at its top is the directory itself: it goes beside its name.
            above = directory.rpartition("/")[0] or "/"
            body = _archive(engine, container, directory)
            where = f"/containers/{copy}/archive"
            await engine.ask("PUT", where, query={"path": above}, body=body, within=None)
        full = f"{_REPOSITORY}:{tag}"
        await commit(engine, copy, full, inside, own_config(told))
    return full


async def _archive(engine: Engine, container: str, path: str) -> AsyncIterator[bytes]:
    query = {"path": path}
    async with engine.stream("GET", f"/containers/{container}/archive", query=query) as answer:
        async for chunk in answer.chunks:
            yield chunk
