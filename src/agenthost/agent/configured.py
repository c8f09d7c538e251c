"""What a config says, as the arguments of a HostedAgent."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from agenthost.agent.audit.settings import Audit, AuditLevel
from agenthost.agent.credentials import Credentials
from agenthost.agent.defaults import NO_DEFAULTS, SafeDefaults
from agenthost.agent.progress import Progress
from agenthost.config.load import Config, read_config
from agenthost.sandbox import Sandbox, SandboxProvider
from agenthost.spec import Limits, SandboxSpec

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions


class Overrides(TypedDict, total=False):
    """Arguments of HostedAgent that come before what a config says."""

    provider: str | SandboxProvider | None
    sandbox: Sandbox | None
    spec: SandboxSpec | None
    workspace: str | os.PathLike[str] | None
    credentials: Credentials
    limits: Limits | None
    defaults: SafeDefaults | None
    on_progress: Callable[[Progress], None] | None
    ack: Literal["auto", "manual"]
    audit: Audit | AuditLevel | None


def arguments_of(
    config: str | os.PathLike[str] | Config | None,
    options: ClaudeAgentOptions | dict[str, Any] | None,
    overrides: Overrides,
) -> tuple[Any, dict[str, Any]]:
    """Return the options and the other arguments.

    Raises:
        ConfigError: As load_config.
    """
    # None says for these three what leaving them out says.
    said: dict[str, Any] = {
        name: value
        for name, value in overrides.items()
        if value is not None or name not in ("provider", "spec", "limits")
    }
    given = said.get("provider")
    found = (
        config
        if isinstance(config, Config)
        else read_config(
            config,
            provider=given if type(given) is str else None,
            opens=said.get("sandbox") is None and (given is None or type(given) is str),
        )
    )
    arguments: dict[str, Any] = {"defaults": safe_defaults(found), "limits": found.limits}
    if found.credentials is not None:
        arguments["credentials"] = found.credentials
    if found.ack is not None:
        arguments["ack"] = found.ack
    if found.audit is not None:
        arguments["audit"] = Audit(**found.audit)
    if said.get("sandbox") is None:  # one that exists was made before, of something else
        arguments["spec"] = found.spec
        if "provider" not in said:
            arguments["provider"] = found.provider
        elif type(said["provider"]) is str:
            said["provider"] = found.named(said["provider"])
    return options_of(found, options), {**arguments, **said}


def safe_defaults(config: Config) -> SafeDefaults:
    """Return what the agent does otherwise than the SDK's defaults."""
    return NO_DEFAULTS if config.defaults is None else SafeDefaults(**config.defaults)


def options_of(config: Config, options: object) -> Any:
    """Return a config's options with those of the program before them, field by field.

    ``env`` is put together name by name.
    """
    said = dict(config.options)
    if "agents" in said:
        from claude_agent_sdk import AgentDefinition

        said["agents"] = {name: AgentDefinition(**one) for name, one in said["agents"].items()}
    given = _given(options)
    if given is None:
        return options  # it is refused where the agent is connected
    env: dict[str, Any] = {**(said.get("env") or {}), **(given.get("env") or {})}
    return {**said, **given, **({"env": env} if env else {})}


def _given(options: object) -> dict[str, Any] | None:
    """Return the fields that are set; None when these are no options."""
    if options is None:
        return {}
    if isinstance(options, Mapping):
        given = cast("Mapping[str, Any]", options)
        return {name: value for name, value in given.items() if value is not None}
    if not dataclasses.is_dataclass(options) or isinstance(options, type):
        return None
    # One that holds the SDK's own default counts as not set: the two cannot be told apart.
    blank = type(options)()
    return {
        one.name: getattr(options, one.name)
        for one in dataclasses.fields(options)
        if getattr(options, one.name) != getattr(blank, one.name)
    }
