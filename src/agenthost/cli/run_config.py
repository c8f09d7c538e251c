"""The config of ``agenthost run``, and what of it counts only when the command line says it, too.

A file that lies in a directory can be somebody else's. It may choose a model or bounds; it may not quietly
weaken the isolation, or lead a credential elsewhere. What environment variables say is the user's own.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenthost.cli.allow import HERE, Allow
from agenthost.cli.run_code import may_run_programs, may_take_key, opens_settings
from agenthost.config.environment import CONFIG
from agenthost.config.load import Config, make_config
from agenthost.config.mistakes import tell_path
from agenthost.config.shape import Path as Place
from agenthost.config.sources import Sources, is_reference, leads, read_sources
from agenthost.errors import ConfigError

if TYPE_CHECKING:
    from agenthost.sandbox import Capabilities

_ADDRESS = re.compile(r"(ANTHROPIC|CLAUDE)\w*_(URL|HOST|ENDPOINT)\Z")

Doubt = tuple[Place, str, str]  # where it stands, what it does, which option allows it


def find_config(path: Path | None, provider: str | None) -> Config | None:
    """Read what ``read_here`` reads and say so on stderr. None when there is nothing of it.

    Args:
        path: What ``--config`` says.
        provider: What ``--provider`` says: the options of this one are checked.

    Raises:
        ConfigError: It makes no sense.
    """
    sources = read_here(path)
    variables = [setting.variable for setting in sources.settings]
    if sources.file is None and not variables and not sources.mistakes:
        return None
    read = [] if sources.file is None else [str(sources.file)]
    if read or variables:
        print(f"agenthost: settings from {', '.join([*read, *variables])}", file=sys.stderr)
    return make_config(sources, provider=provider)


def read_here(path: Path | None) -> Sources:
    """Read the config that was named, else AGENTHOST_CONFIG's, else ``./agenthost.toml``, and variables.

    Raises:
        ConfigError: It cannot be read. Other mistakes are kept in it.
    """
    named = path if path is not None or os.environ.get(CONFIG) else (HERE if HERE.is_file() else None)
    return read_sources(named, os.environ, required=False)


def lies_here(sources: Sources) -> bool:
    """Tell whether its file is the one that merely lies here, which can be somebody else's."""
    return sources.file is not None and sources.file.resolve() == HERE.resolve()


def check_file(
    config: Config, *, provider: str | None, network: bool, credentials: str | None
) -> list[Doubt]:
    """Return what the file may not say alone, as far as that can be told without its provider.

    Args:
        config: The config.
        provider: What ``--provider`` says.
        network: Whether ``--network`` was given.
        credentials: What ``--credentials`` says.
    """
    found: list[Doubt] = []
    chosen = provider or config.sources.tables.provider
    for path, value in _values(config):
        if path == ("provider",) and provider is None and value == "local-unisolated":
            found.append((path, "isolates nothing", f"--provider {value}"))
        elif path == ("spec", "network") and value == "open" and not network:
            found.append((path, "opens the network to the sandbox", "--network open"))
        elif path == ("agent", "defaults", "refuse_model_egress") and value in ("sdk", False) and not network:
            found.append((path, "lets the model's service reach further than the sandbox", "--allow network"))
        elif path == ("agent", "defaults", "other_fields") and value and not network:
            found.append((path, "lets fields reach the model's service unchecked", "--allow network"))
        elif path == ("spec", "mounts") and value:
            found.append((path, "shows files of this machine to the agent", "--allow mounts"))
        elif path == ("agent", "credentials") and value != "host" and credentials is None:
            found.append((path, "takes the credential elsewhere", f"--credentials {value}"))
        elif path[:1] == ("providers",) and path[1:2] == (chosen or "local",):
            found.append((path, "tells a provider what to run or whom to ask", "--allow provider-options"))
        elif is_reference(value) or path == ("spec", "inject"):
            found.append((path, "hands out a secret of this machine", "--allow secrets"))
        elif path == ("audit", "directory"):
            found.append((path, "writes files on this machine", "--allow audit"))
        elif _bypasses(path, value):
            found.append((path, "lets the agent do anything without asking", "--allow bypass"))
        elif _is_address(path):
            found.append((path, "leads the credential to another address", "--allow base-url"))
        if opens_settings(path, value):
            what = "can start programs, end questions and lead the credential elsewhere"
            found.append((path, what, "--allow settings"))
    return found


def check_provider(
    config: Config, capabilities: Capabilities, *, provider: str | None, network: bool, credentials: str
) -> list[Doubt]:
    """Return the rest, which depends on what the provider does by itself.

    What runs programs is asked about only of the file that lies here: another one was named by somebody.

    Args:
        config: The config.
        capabilities: The provider's.
        provider: What ``--provider`` says.
        network: Whether ``--network`` was given.
        credentials: Where the key will be.
    """
    found: list[Doubt] = []
    if capabilities.isolation == "none" and provider is None and _is_in_file(config, ("provider",)):
        name = config.sources.tables.provider
        found.append((("provider",), "isolates nothing", f"--provider {name}"))
    allowed: Place = ("spec", "network", "allow")
    if capabilities.default_network == "none" and not network and _is_in_file(config, allowed):
        found.append((allowed[:2], "opens the network to the sandbox", "--allow network"))
    for path, value in _values(config) if lies_here(config.sources) else ():
        if capabilities.isolation == "none" and may_run_programs(path, value):
            found.append((path[:3], "can run programs on this machine, isolated by nothing", "--allow code"))
        elif credentials == "env" and may_take_key(path, value):
            found.append((path[:3], "can give the key in the sandbox to a program", "--allow code"))
    return found


def require(config: Config, doubts: list[Doubt], allowed: list[Allow]) -> None:
    """Refuse what was not allowed.

    Raises:
        ConfigError: All of it, with the option that allows each.
    """
    said = {f"--allow {one.value}" for one in allowed}
    lines = [f"  {tell_path(path)} {what}: {flag}" for path, what, flag in doubts if flag not in said]
    if lines:
        raise ConfigError(
            f"{config.path} says what counts only when the command line says it, too; if it is meant, add\n"
            + "\n".join(dict.fromkeys(lines))
        )


def _values(config: Config) -> list[tuple[Place, Any]]:
    """Return what the file says and no variable says otherwise."""
    return [(path, value) for path, value, _ in config.sources.values() if _is_in_file(config, path)]


def _is_in_file(config: Config, path: Place) -> bool:
    return leads(config.sources.tree, path) and config.sources.variable(path) is None


def _bypasses(path: Place, value: Any) -> bool:
    if path in (("agent", "defaults"), ("agent", "defaults", "refuse_unisolated_bypass")):
        return value in ("sdk", False)
    return path[:1] == ("agent",) and value == "bypassPermissions"


def _is_address(path: Place) -> bool:
    return path[:2] in (("agent", "env"), ("spec", "env")) and _ADDRESS.match(str(path[-1])) is not None
