"""``agenthost cloudflare init``: write the project of the Worker that starts sandboxes at Cloudflare."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from agenthost.adapter.bake import BakePlan, plan_bake
from agenthost.cli.transcript import printable
from agenthost.errors import ConfigError
from agenthost.supports import ImageRecipe

_NAME = "cloudflare"
_LEFT_OUT = {"node_modules", ".wrangler", "__pycache__"}
_CLOSED = "closed"

commands = typer.Typer(
    name=_NAME,
    add_completion=False,
    help="Set up the cloudflare provider.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(frozen=True, slots=True)
class _Project:
    name: str
    egress: str
    allowed: tuple[str, ...]
    packages: tuple[str, ...]


@commands.callback()
def group() -> None:
    """Set up the cloudflare provider."""


@commands.command()
def init(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where the project goes: a new directory, or an empty one.")
    ],
    name: Annotated[
        str, typer.Option(help="The Worker's name; the first part of its address.")
    ] = "agenthost-sandboxes",
    egress: Annotated[
        str,
        typer.Option(help="What sandboxes reach: open, every host; closed, those of --allow-host alone."),
    ] = "open",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A host that sandboxes reach with --egress closed; repeatable.")
    ] = None,
    package: Annotated[
        list[str] | None,
        typer.Option(help="Another Python package for the agent's programs, as pip takes it; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write the project of a Worker, which you deploy to your account at Cloudflare.

    It holds the Worker, its tests, and a Dockerfile with the Claude Agent SDK of this machine's version.
    Nothing is installed, and no account is needed for this. The commands that deploy it are printed.
    """
    project = _checked(_Project(name, egress, tuple(allow_host or ()), tuple(package or ())))
    template = files("agenthost.providers.cloudflare") / "worker"
    plan = plan_bake(ImageRecipe(packages=project.packages), default_base=_base_of(template))
    _write(template, directory, project, plan)
    following = next_commands(directory, name)
    if as_json:
        described = {"directory": str(directory), "name": name, "egress": egress, "image": plan.name}
        print(json.dumps({**described, "sdk_version": plan.sdk, "next": following}))
        return
    print(f"wrote the project of the Worker {name} to {printable(str(directory))}.")
    print("Next, with Node.js 22.12 or newer and Docker:\n")
    print("\n".join(f"  {printable(line)}" for line in following))
    print("\nIts README.md has the details. Until it has a key, the Worker refuses every request.")


def next_commands(directory: Path, name: str) -> list[str]:
    """Return the commands that deploy a project."""
    return [
        f"cd {shlex.quote(str(directory))}",
        "npm ci",
        "npx wrangler login",
        "npx wrangler deploy",
        'export CLOUDFLARE_SANDBOX_API_KEY="$(openssl rand -hex 32)"',
        'printf %s "$CLOUDFLARE_SANDBOX_API_KEY" | npx wrangler secret put SANDBOX_API_KEY',
        f"export CLOUDFLARE_SANDBOX_WORKER_URL=https://{name}.ACCOUNT.workers.dev",
    ]


def _checked(project: _Project) -> _Project:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,52}[a-z0-9])?", project.name):
        raise ConfigError(
            f"--name {project.name!r} is not valid: it has at most 54 lower-case letters, digits and hyphens"
        )
    if project.egress not in ("open", _CLOSED):
        raise ConfigError(f"--egress {project.egress!r} is not valid: it is open or closed")
    if project.allowed and project.egress != _CLOSED:
        raise ConfigError("--allow-host needs --egress closed: otherwise sandboxes reach every host")
    for host in project.allowed:
        if not re.fullmatch(r"[A-Za-z0-9.*-]+", host):
            raise ConfigError(f"--allow-host {host!r} is not a valid host")
    return project


def _base_of(template: Traversable) -> str:
    """Return the image of the same version as the package: the two speak one protocol."""
    manifest = json.loads((template / "package.json").read_text(encoding="utf-8"))
    return f"docker.io/cloudflare/sandbox:{manifest['dependencies']['@cloudflare/sandbox']}-python"


def _write(template: Traversable, directory: Path, project: _Project, plan: BakePlan) -> None:
    install, _ = plan.steps
    filled = {
        "@BASE@": plan.base,
        "@INSTALL@": install,
        "@COMPILE@": json.dumps(plan.compile),  # without a shell: its program has several lines
        '"name": "agenthost-sandboxes"': f'"name": {json.dumps(project.name)}',
        '"EGRESS": "open"': f'"EGRESS": {json.dumps(project.egress)}',
        '"ALLOWED_HOSTS": ""': f'"ALLOWED_HOSTS": {json.dumps(",".join(project.allowed))}',
        '"IMAGE": ""': f'"IMAGE": {json.dumps(plan.name)}',
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise ConfigError(f"{directory} is not empty: name a new directory, or an empty one")
        _copy(template, directory, filled)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"{directory} is not a directory") from error


def _copy(source: Traversable, target: Path, filled: dict[str, str]) -> None:
    for one in source.iterdir():
        if one.name in _LEFT_OUT:
            continue
        if one.is_dir():
            (target / one.name).mkdir()
            _copy(one, target / one.name, filled)
            continue
        text = one.read_text(encoding="utf-8")
        if one.name in ("Dockerfile", "wrangler.jsonc"):
            for placeholder, value in filled.items():
                text = text.replace(placeholder, value)
        (target / one.name).write_text(text, encoding="utf-8")
