"""Which image a sandbox is made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from agenthost.errors import BootstrapError, ConfigError
from agenthost.providers.docker import labels
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.errors import EngineError
from agenthost.providers.docker.fitting import LAYOUT, commit, fit, own_config
from agenthost.providers.docker.looking import look_into
from agenthost.providers.docker.one_off import one_off

BAKED = "agenthost/baked"
_FITTED = "agenthost/fitted"


@dataclass(frozen=True, slots=True)
class Image:
    """An image that a sandbox can be made from.

    Attributes:
        id: The engine's.
        labels: What is inside, by the names of labels.OF_IMAGE.
    """

    id: str
    labels: Mapping[str, str]


def host_sdk_version() -> str:
    """Return the version of the SDK that this host has."""
    return version("claude-agent-sdk")


def digest(*parts: object) -> str:
    """Return a short hash of what goes into an image."""
    return hashlib.sha256(json.dumps([LAYOUT, *parts]).encode()).hexdigest()[:16]


async def inspect(engine: Engine, image: str) -> dict[str, Any] | None:
    """Return what the engine knows of an image; None when it has none of this name."""
    try:
        told: dict[str, Any] = await engine.ask("GET", f"/images/{quote(image)}/json")
    except EngineError as exc:
        if exc.status == 404:
            return None
        raise
    return told


def labels_of(told: Mapping[str, Any]) -> dict[str, str]:
    """Return an image's labels."""
    config: dict[str, Any] = told.get("Config") or {}
    return dict[str, str](config.get("Labels") or {})


async def find_image(engine: Engine, image: str | None, workdir: str) -> Image:
    """Return the image for a sandbox with this working directory.

    One that is not made for it is fitted, once: a layer with a user and empty directories, kept beside it.

    Raises:
        ConfigError: The engine has no such image.
        BootstrapError: It lacks what an agent needs; the message says how to bake one.
    """
    told = await _named(engine, image)
    found = labels_of(told)
    if _is_fitted(found, workdir):
        return _image(told)
    name = f"{_FITTED}:{digest(told['Id'], workdir)}"
    known = await inspect(engine, name)
    if known is not None and _is_fitted(labels_of(known), workdir):
        return _image(known)
    if labels.FITTED not in found:
        found = await _look(engine, image or "", told)
    inside = {name_: found[name_] for name_ in labels.OF_IMAGE if name_ in found}
    inside[labels.WORKDIR] = workdir
    inside[labels.PROVIDER] = "docker"
    async with one_off(engine, told["Id"], ["true"]) as container:
        await fit(engine, container, workdir)
        made = await commit(engine, container, name, inside, own_config(told))
    return Image(made, inside)


async def _named(engine: Engine, image: str | None) -> dict[str, Any]:
    if image is not None:
        told = await inspect(engine, image)
        if told is None:
            raise ConfigError(
                f"image={image!r}: the container engine has no such image. Make one from it, which pulls it: "
                f"agenthost bake docker --base {image}"
            )
        return told
    sdk = host_sdk_version()
    query = {"filters": {"label": labels.as_filter({labels.SDK: sdk})}}
    told_of: list[dict[str, Any]] = await engine.ask("GET", "/images/json", query=query)
    listed = [one for one in told_of if _is_baked(one)]
    if not listed:
        raise BootstrapError(
            f"there is no image with claude-agent-sdk {sdk} yet. Make one: agenthost bake docker"
        )
    newest = max(listed, key=lambda one: int(one["Created"]))
    told = await inspect(engine, str(newest["Id"]))
    if told is None:
        raise BootstrapError("the baked image was removed a moment ago. Make it anew: agenthost bake docker")
    return told


async def _look(engine: Engine, image: str, told: Mapping[str, Any]) -> dict[str, str]:
    seen = await look_into(engine, str(told["Id"]))
    missing = seen.missing()
    if missing:
        raise BootstrapError(f"image {image!r} lacks what an agent needs: {', '.join(missing)}")
    if seen.sdk is None:
        raise BootstrapError(
            f"image {image!r} has no claude-agent-sdk. Make one that has: "
            f"agenthost bake docker --base {image}"
        )
    return {labels.PYTHON: seen.python, labels.SITE: "", labels.SDK: seen.sdk}


def _is_baked(listed: Mapping[str, Any]) -> bool:
    """Whether an image is one of bake's own, not one that was made from it: a snapshot is somebody's work."""
    own: dict[str, str] = listed.get("Labels") or {}
    tags: list[str] = listed.get("RepoTags") or []
    name = f"{BAKED}:{own.get(labels.BAKED)}"
    # podman has a registry's name in front.
    return any(tag == name or tag.endswith("/" + name) for tag in tags)


def _is_fitted(found: Mapping[str, str], workdir: str) -> bool:
    return found.get(labels.FITTED) == LAYOUT and found.get(labels.WORKDIR) == workdir


def _image(told: Mapping[str, Any]) -> Image:
    found = labels_of(told)
    return Image(str(told["Id"]), {name: found[name] for name in labels.OF_IMAGE if name in found})
