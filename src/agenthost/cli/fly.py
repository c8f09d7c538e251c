"""``agenthost fly init``: make the app at Fly whose machines are the sandboxes."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer

from agenthost.cli.configured_providers import AllowOption, ConfigOption, Where, find_names, where_said
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.transcript import printable
from agenthost.errors import UnsupportedError
from agenthost.providers.fly.app import PreparedApp
from agenthost.providers.fly.provider import FlyProvider
from agenthost.registry import ProviderName, open_provider, options_of, registration

_NAME = "fly"
_WHAT = {"app": "the app", "shared_v4": "a shared IPv4 address", "v6": "an IPv6 address"}
# Source: "Fly.io Resource Pricing", superfly/docs 5c22c8c.
_COSTS = (
    "Neither an app nor these addresses cost anything. A machine costs money while it runs, and a little for "
    "its disk while it is suspended: https://fly.io/docs/about/pricing"
)

commands = typer.Typer(
    name=_NAME,
    add_completion=False,
    help="Set up the fly provider.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@commands.callback()
def group() -> None:
    """Set up the fly provider."""


@commands.command()
def init(
    app: Annotated[
        str | None,
        typer.Argument(help="The app; its name must be unique at Fly. Not given: FLY_APP, or the config's."),
    ] = None,
    organization: Annotated[
        str, typer.Option("--org", help="The slug of the organization in which a new app is made.")
    ] = "personal",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigOption = None,
    allow: AllowOption = None,
) -> None:
    """Make the app that sandboxes are machines of, and its public addresses, where they are missing.

    It can be repeated. The token, FLY_API_TOKEN or the config's, must be one that may make apps:
    `fly tokens create org`. An app that has machines of another program is refused.
    """
    where = where_said(config, allow, _NAME)
    prepared = run_until_stopped(
        partial(_prepare, where, app, organization), ending="run it again to complete what was begun"
    )
    if as_json:
        print(json.dumps({**asdict(prepared), "monthly_cost": 0}))
    else:
        _show(prepared)


async def _prepare(where: Where, app: str | None, organization: str) -> PreparedApp:
    name = find_names(where).named(_NAME)
    if app is not None:
        name = ProviderName(_NAME, {**options_of(name), "app": app})
    async with open_provider(name) as provider:
        if not isinstance(provider, FlyProvider):
            raise UnsupportedError(
                f"{registration(_NAME)} has the name {_NAME} here: it makes no apps at Fly"
            )
        return await provider.prepare_app(organization)


def _show(prepared: PreparedApp) -> None:
    print(f"app {printable(prepared.name)} in the organization {printable(prepared.organization)}:")
    for found, word in ((prepared.made, "made"), (prepared.found, "there already")):
        for one in found:
            print(f"  {_WHAT[one]}: {word}")
    print(f"Sandboxes are reached at {printable(prepared.url)}; a new name takes some minutes to be known.")
    print(_COSTS)
