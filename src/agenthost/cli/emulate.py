"""``agenthost emulate``: a provider's API on this machine, for trying things out and for tests."""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Annotated, Any

import anyio
import typer

from agenthost.cli.allow import Allow
from agenthost.cli.stopping import StoppedError, run_until_stopped
from agenthost.config.environment import variable_of
from agenthost.config.secrets import looks_secret, names_secret
from agenthost.errors import ConfigError, MissingExtraError
from agenthost.registry import open_provider
from agenthost.testing.emulators.base.about import emulator_names


def emulate(
    provider: Annotated[str, typer.Argument(help=f"Whose API: {' or '.join(emulator_names())}.")],
    friendly: Annotated[
        bool, typer.Option("--friendly", help="Without the provider's traps: for tests of one's own program.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Serve a provider's API on loopback until Ctrl-C: no account, no key, the provider's real client.

    Prints a config on stdout, for --config of the other commands, and on stderr
    the variables that say the same and hold its secret. Sandboxes are local ones,
    and end with it.
    """
    known = emulator_names()
    if provider not in known:
        names = ", ".join(known) or "none"
        raise ConfigError(f"there is no emulator of {provider!r}. Known are: {names}")
    try:
        run_until_stopped(
            partial(serve, provider, friendly=friendly, as_json=as_json), ending="its sandboxes end"
        )
    except StoppedError:
        return  # that is how it ends


async def serve(name: str, *, friendly: bool, as_json: bool) -> None:
    """Serve until it is cancelled; print first how to use it."""
    try:
        module: Any = importlib.import_module(f"agenthost.testing.emulators.{name}")
        opened: AbstractAsyncContextManager[Any] = module.emulator(friendly=friendly)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("agenthost"):
            raise
        message = f"the emulator of {name!r} needs a package that is not installed ({error})"
        raise MissingExtraError(f"{message}. Install it: pip install 'agenthost[{name}]'") from error
    async with opened as emulator:
        open_provider(name, **emulator.options)  # raises MissingExtraError, with the command that installs it
        if as_json:
            _print_json(name, emulator.options)
        else:
            _print_for_people(name, emulator.options)
        await anyio.sleep_forever()


def _print_json(name: str, options: Mapping[str, object]) -> None:
    print(
        json.dumps({"provider": name, "options": options, "environment": environment_of(name, options)}),
        flush=True,
    )


def _print_for_people(name: str, options: Mapping[str, object]) -> None:
    """Print a shell's lines on stderr, and a config on stdout: each can be pasted as it is."""
    lines = [
        f"# {name} is emulated until Ctrl-C. With these lines in another shell, agenthost commands use it:",
        *(f"export {key}={shlex.quote(value)}" for key, value in environment_of(name, options).items()),
        "# The same as a config, for --config FILE. Its secret is in the variable that it names; without the",
        f"# other variables, `agenthost run` also needs --allow {Allow.provider_options.value}.",
    ]
    print("\n".join(lines), file=sys.stderr, flush=True)
    print(config_of(name, options), flush=True)


def environment_of(name: str, options: Mapping[str, object]) -> dict[str, str]:
    """Return the variables that choose a provider with these options."""
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in options.items()}
    variables = {variable_of(("providers", name, key)): text for key, text in texts.items()}
    return {variable_of(("provider",)): name, **variables}


def config_of(name: str, options: Mapping[str, object]) -> str:
    """Return a config that says the same, with the name of a variable in place of a secret."""
    lines = [f'provider = "{name}"', "", f"[providers.{name}]"]
    for key, value in options.items():
        is_secret = names_secret(key) or looks_secret(str(value))
        variable = variable_of(("providers", name, key))
        lines.append(f"{key} = " + (f'{{ env = "{variable}" }}' if is_secret else json.dumps(value)))
    return "\n".join(lines)
