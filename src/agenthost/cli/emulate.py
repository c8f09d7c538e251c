"""``agenthost emulate``: a provider's API on this machine, for trying things out and for tests."""

from __future__ import annotations

import importlib
import json
import pkgutil
import shlex
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Annotated, Any

import anyio
import typer

from agenthost.cli.stopping import StoppedError, run_until_stopped
from agenthost.config.secrets import looks_secret, names_secret
from agenthost.errors import ConfigError, MissingExtraError
from agenthost.testing import emulators


def emulate(
    provider: Annotated[str, typer.Argument(help="Whose API.")],
    friendly: Annotated[
        bool, typer.Option("--friendly", help="Without the provider's traps: for tests of one's own program.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Serve a provider's API on loopback until Ctrl-C: no account, no key, the provider's real client.

    Prints the options with which the provider is opened. Sandboxes are local ones, and end with it.
    """
    known = emulator_names()
    if provider not in known:
        names = ", ".join(known) or "none"
        raise ConfigError(f"there is no emulator of {provider!r}. Known are: {names}")
    try:
        run_until_stopped(partial(_serve, provider, friendly, as_json), ending="its sandboxes end")
    except StoppedError:
        return  # that is how it ends


def emulator_names() -> list[str]:
    """Return the providers that there are emulators of: each is a package with a function ``emulator``."""
    return sorted(one.name for one in pkgutil.iter_modules(emulators.__path__) if one.ispkg)


async def _serve(name: str, friendly: bool, as_json: bool) -> None:
    try:
        module: Any = importlib.import_module(f"agenthost.testing.emulators.{name}")
        opened: AbstractAsyncContextManager[Any] = module.emulator(friendly=friendly)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("agenthost"):
            raise
        message = f"the emulator of {name!r} needs a package that is not installed ({error})"
        raise MissingExtraError(f"{message}. Install it: pip install 'agenthost[{name}]'") from error
    async with opened as emulator:
        _tell(name, emulator.options, as_json)
        await anyio.sleep_forever()


def _tell(name: str, options: Mapping[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"provider": name, "options": options}), flush=True)
        return
    # A secret stands in no config: there it is the name of a variable.
    variables = {key: f"{name}_{key}".upper() for key, value in options.items() if _is_secret(key, value)}
    print(f"{name} is emulated until Ctrl-C. To use it, in a shell:\n")
    for key, variable in variables.items():
        print(f"export {variable}={shlex.quote(str(options[key]))}")
    print(f'\nand in an agenthost.toml:\n\nprovider = "{name}"\n\n[providers.{name}]')
    for key, value in options.items():
        told = f'{{ env = "{variables[key]}" }}' if key in variables else json.dumps(value)
        print(f"{key} = {told}")
    print(flush=True)


def _is_secret(key: str, value: object) -> bool:
    return names_secret(key) or looks_secret(str(value))
