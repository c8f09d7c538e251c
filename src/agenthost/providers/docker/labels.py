"""What containers and images are known by. Labels are shown by every tool: they hold no secrets."""

from __future__ import annotations

from collections.abc import Mapping

PROVIDER = "agenthost.provider"  # on all that is ours; its value is the provider's name
KIND = "agenthost.kind"  # "sandbox", or "builder": made to make an image, gone in a minute
NAME = "agenthost.name"
CREATED = "agenthost.created"  # seconds since the epoch
END = "agenthost.end"
OWNER = "agenthost.owner"  # of a builder; a sandbox has its own among its spec's labels
_OF_SPEC = "agenthost.label."

# What is inside, on images and on sandboxes.
WORKDIR = "agenthost.workdir"
PYTHON = "agenthost.python"
SITE = "agenthost.site"  # empty: the interpreter finds the SDK itself
SDK = "agenthost.sdk"
FITTED = "agenthost.fitted"  # an image has the user and the directories that a sandbox needs
BAKED = "agenthost.baked"  # the hash of what went into it
BASE = "agenthost.base"
OF_IMAGE = (WORKDIR, PYTHON, SITE, SDK)
NOT_INHERITED = {KIND: "image", **dict.fromkeys((NAME, CREATED, END, OWNER, BAKED, BASE), "none")}


def of_spec(labels: Mapping[str, str]) -> dict[str, str]:
    """Return a spec's labels under names of their own: an image brings labels, too."""
    return {_OF_SPEC + name: value for name, value in labels.items()}


def to_spec(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of the spec that a container was made by."""
    return {name.removeprefix(_OF_SPEC): value for name, value in labels.items() if name.startswith(_OF_SPEC)}


def as_filter(labels: Mapping[str, str]) -> list[str]:
    """Return labels as an engine's filter has them. podman takes what has one of them, not all."""
    return [f"{name}={value}" for name, value in labels.items()]


def has_all(own: Mapping[str, str] | None, wanted: Mapping[str, str]) -> bool:
    """Return whether these labels are among those of a container."""
    return wanted.items() <= (own or {}).items()
