"""``agenthost bake``: make the image that agents start fast in."""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib.metadata import version
from typing import Annotated

import typer

from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.transcript import printable
from agenthost.errors import UnsupportedError
from agenthost.registry import open_provider
from agenthost.supports import ImageRecipe, SupportsImages


def bake(
    provider: Annotated[str, typer.Argument(help="Whose images: docker, or another that makes them.")],
    base: Annotated[
        str | None, typer.Option(help="The image to begin from; the provider's own default if not given.")
    ] = None,
    package: Annotated[
        list[str] | None,
        typer.Option(help="Another Python package for the agent's programs, as pip is told; repeatable."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make it anew although it is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make the image that a provider's sandboxes start from, and print its name.

    It holds the Claude Agent SDK of this machine's version and the packages named here. What is made
    already is found again. New sandboxes take the image made last; those that run keep theirs.
    """
    recipe = ImageRecipe(base=base, packages=tuple(package or ()))
    image = run_until_stopped(partial(_bake, provider, recipe, force), ending="what was begun is taken away")
    if as_json:
        told = {
            "provider": provider,
            "image": image,
            "base": base,
            "packages": list(recipe.packages),
            "sdk_version": version("claude-agent-sdk"),
        }
        print(json.dumps(told))
    else:
        print(image)


async def _bake(name: str, recipe: ImageRecipe, force: bool) -> str:
    async with open_provider(name) as provider:
        if not provider.capabilities.images or not isinstance(provider, SupportsImages):
            raise UnsupportedError(f"the {name} provider makes no images: it starts from what is there")
        return await provider.build(recipe, force=force, on_progress=_say)


def _say(text: str) -> None:
    """Tell of the progress. Some of it is what a builder prints; stdout is for the image's name."""
    print(printable(text), file=sys.stderr, flush=True)
