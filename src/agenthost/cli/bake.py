"""``agenthost bake``: make the image that agents start fast in."""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib.metadata import version
from typing import Annotated

import typer

from agenthost.cli.configured_providers import AllowOption, ConfigOption, Where, open_providers, where_said
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.transcript import printable
from agenthost.errors import UnsupportedError
from agenthost.supports import ImageRecipe, SupportsImages


def bake(
    provider: Annotated[
        str,
        typer.Argument(help="Whose images: docker, daytona, e2b, modal, vercel or another that makes some."),
    ],
    base: Annotated[
        str | None, typer.Option(help="The image to begin from; the provider's own default if not given.")
    ] = None,
    package: Annotated[
        list[str] | None,
        typer.Option(help="Another Python package for the agent's programs, as pip is told; repeatable."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make it anew although it is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigOption = None,
    allow: AllowOption = None,
) -> None:
    """Make the image that a provider's sandboxes start from, and print its name.

    The image holds the Claude Agent SDK of this machine's version and the packages named here. An image that
    exists already is not made again. New sandboxes take the image made last; running ones keep theirs.
    Progress goes to stderr.
    """
    recipe = ImageRecipe(base=base, packages=tuple(package or ()))
    where = where_said(config, allow, provider)
    image = run_until_stopped(partial(_bake, where, recipe, force), ending="what was begun is taken away")
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


async def _bake(where: Where, recipe: ImageRecipe, force: bool) -> str:
    async with open_providers(where) as opened:
        ((name, provider),) = opened.providers.items()  # the one that was named is open, or has raised
        if not provider.capabilities.images or not isinstance(provider, SupportsImages):
            raise UnsupportedError(
                f"the {name} provider makes no images: its sandboxes start without one. "
                "`agenthost providers` shows which providers make images"
            )
        return await provider.build(recipe, force=force, on_progress=_say)


def _say(text: str) -> None:
    """Tell of the progress. Some of it is what a builder prints; stdout is for the image's name."""
    print(printable(text), file=sys.stderr, flush=True)
