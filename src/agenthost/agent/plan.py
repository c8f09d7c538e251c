"""What was asked for, checked before anything is made."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from agenthost.agent.attachment import Attachment
from agenthost.agent.audit.settings import Audit, audit_settings
from agenthost.agent.credentials import (
    MODEL_VARIABLES,
    Credentials,
    ModelAccess,
    check_credentials,
    check_headers,
    check_reach,
    let_provider_add,
    put_key_inside,
    refuse_other_services,
    take_model_access,
)
from agenthost.agent.defaults import SafeDefaults
from agenthost.agent.inherited import inherit
from agenthost.agent.model_guard import ModelGuard
from agenthost.agent.options import PlainOptions, check_env, check_names, plain_options
from agenthost.agent.progress import Progress
from agenthost.agent.tool_authority import TELLING_OPTIONS
from agenthost.errors import ConfigError, UnsupportedError
from agenthost.sandbox import Sandbox, SandboxProvider
from agenthost.spec import Limits, SandboxSpec, require
from agenthost.wire.codec import Codec

DEFAULT_PROVIDER = "local"

_log = logging.getLogger("agenthost.agent")


@dataclass(slots=True, kw_only=True)
class Plan:
    """One agent to be.

    Attributes:
        access: Where model requests go; None when they do not travel over the link.
        guard: What these requests may be. Not used where ``access`` is None.
    """

    options: PlainOptions
    provider: str | SandboxProvider | None
    sandbox: Sandbox | None
    spec: SandboxSpec
    workspace: Path | None
    access: ModelAccess | None
    guard: ModelGuard
    limits: Limits
    limits_given: bool
    defaults: SafeDefaults
    on_progress: Callable[[Progress], None] | None
    credentials: Credentials
    manual_ack: bool = False
    attachment: Attachment | None = None
    audit: Audit | None = None


def check_values(
    options: object, spec: object, limits: object, defaults: object, audit: object = None
) -> None:
    """Refuse arguments of the wrong kind where they are given, before anything is read or made.

    Raises:
        ConfigError: It names the argument, or the field of the options.
    """
    check_names(options)
    check_env(options)
    if spec is not None:
        require("spec", spec, SandboxSpec, "a SandboxSpec, SandboxSpec(cpu=2)")
    if limits is not None:
        require("limits", limits, Limits, "a Limits, Limits(start=60)")
    require("defaults", defaults, SafeDefaults, "a SafeDefaults, or None")
    audit_settings(audit)


def make_plan(
    *,
    options: object,
    provider: str | SandboxProvider | None,
    sandbox: Sandbox | None,
    spec: SandboxSpec | None,
    workspace: str | os.PathLike[str] | None,
    credentials: Credentials,
    limits: Limits | None,
    defaults: SafeDefaults,
    on_progress: Callable[[Progress], None] | None,
    ack: str = "auto",
    attachment: Attachment | None = None,
    audit: object = None,
) -> Plan:
    """Check what can be checked without a sandbox.

    Raises:
        ConfigError: It makes no sense; the message names the argument.
        UnsupportedError: A callback, by name, or another thing that is not there yet.
        MissingCredentialError: There is no key for the model.
    """
    if sandbox is not None and (provider is not None or spec is not None):
        raise ConfigError("sandbox= is a sandbox that exists: provider= and spec= make one; give only one")
    check_credentials(credentials)
    if ack not in ("auto", "manual"):
        raise ConfigError(f"ack={ack!r}: known are 'auto' and 'manual'")
    plain = plain_options(options)
    plain.take_from_settings(MODEL_VARIABLES)
    access = None
    if attachment is None:  # a running agent's way to the model was decided at its start
        refuse_other_services(plain.env)
        inherit(plain.env)
    if attachment is not None and attachment.role == "observer":
        pass  # it asks no model
    elif credentials == "host":
        access = take_model_access(plain.env, has_helper=plain.has_key_helper)
    elif attachment is not None:
        pass  # it has what it needs since it was made
    elif credentials == "provider":
        if sandbox is not None:
            raise ConfigError(
                "credentials='provider' is for a sandbox that is made for the agent, with the headers that "
                "its provider adds: give provider= instead of sandbox="
            )
        spec = spec or SandboxSpec()
        spec = replace(spec, inject=(*spec.inject, *let_provider_add(plain.env)))
    else:
        put_key_inside(plain.env, has_helper=plain.has_key_helper)
    if attachment is not None:
        _check_attachment(attachment, plain, provider, sandbox)
        provider = provider if provider is not None or sandbox is not None else attachment.ref.provider
    plain.encode(Codec({}))  # refuses what is no data while nothing has been made
    directory = Path(workspace) if workspace is not None else None
    if directory is not None and not directory.is_dir():
        raise ConfigError(f"workspace {str(directory)!r} is not a directory of this machine")
    limits_given = limits is not None
    limits = limits or Limits()
    guard = (
        ModelGuard.of_options(plain.fields, plain.env, limits, defaults)
        if attachment is None
        else ModelGuard.of_ref(attachment.ref.model, limits)
    )
    return Plan(
        options=plain,
        provider=provider if provider is not None or sandbox is not None else DEFAULT_PROVIDER,
        sandbox=sandbox,
        spec=spec or SandboxSpec(),
        workspace=directory,
        access=access,
        guard=guard,
        limits=limits,
        limits_given=limits_given,
        defaults=defaults,
        on_progress=on_progress,
        credentials=credentials,
        manual_ack=ack == "manual",
        attachment=attachment,
        audit=audit_settings(audit),
    )


def _check_attachment(
    attachment: Attachment,
    plain: PlainOptions,
    provider: str | SandboxProvider | None,
    sandbox: Sandbox | None,
) -> None:
    refused = plain.fields.keys() - TELLING_OPTIONS | ({"env"} if plain.env else set[str]())
    if refused:
        names = ", ".join(sorted(refused))
        raise ConfigError(
            f"options.{names}: the options of a running agent stay; attach takes only the functions that "
            "this process answers with (can_use_tool, hooks, in-process MCP servers, session_store, stderr), "
            f"and what says which of its tools may run ({', '.join(sorted(TELLING_OPTIONS))})"
        )
    name = sandbox.provider if sandbox is not None else getattr(provider, "name", provider)
    if name is not None and name != attachment.ref.provider:
        raise ConfigError(f"the ref names an agent on provider {attachment.ref.provider!r}, not on {name!r}")
    if sandbox is not None and sandbox.id != attachment.ref.sandbox:
        raise ConfigError(f"the ref names an agent in sandbox {attachment.ref.sandbox}, not in {sandbox.id}")


def check_isolation(plan: Plan, isolation: str, name: str) -> None:
    """Refuse an agent without questions where nothing isolates it, and a sandbox in one that allows none."""
    check_questions(plan.options.bypasses_permissions, plan.defaults, isolation, name)
    option = plan.options.own_sandbox
    if isolation == "namespaces" and option is not None:
        raise UnsupportedError(
            f"options.{option}: the CLI's own sandbox is enabled, and none can be started within one of "
            f"{name}, so that every command would fail. Leave it out: all that the agent does is isolated "
            "already, and spec=SandboxSpec(network=..., limits=...) sets the bounds"
        )


def check_questions(bypasses: bool, defaults: SafeDefaults, isolation: str, name: str) -> None:
    """Do the same without a plan; ``bypasses`` is whether tools run without any question."""
    if isolation == "none" and bypasses and defaults.refuse_unisolated_bypass:
        raise UnsupportedError(
            f"permission_mode='bypassPermissions' on {name}, which isolates nothing: the agent could do "
            "anything to this machine without asking. Use an isolated provider, or "
            "SafeDefaults(refuse_unisolated_bypass=None)"
        )


def check_injection(plan: Plan, able: bool, name: str) -> None:
    """Refuse to rely on a provider that adds no headers."""
    check_headers(plan.credentials, able, name)


def check_network(plan: Plan, default: str, name: str) -> None:
    """Refuse an agent whose key is inside a sandbox from which no model can be reached.

    Of an MCP server that cannot be reached only a warning tells: the agent may do without it.
    """
    check_reach(plan.credentials, plan.spec.network, default, name)
    if (default if plan.spec.network is None else plan.spec.network.mode) == "none":
        for server, host in plan.options.servers_elsewhere().items():
            _log.warning(
                "the agent cannot reach options.mcp_servers[%r], at %s: its sandbox on %s has no network. "
                "Give spec=SandboxSpec(network=...), or serve its tools from this process, by "
                "create_sdk_mcp_server",
                *(server, host, name),
            )


async def close_model(plan: Plan, sandbox: Sandbox) -> None:
    """Let requests to the model reach no further than the agent's sandbox does itself."""
    attachment = plan.attachment
    if attachment is not None and attachment.ref.model is not None:
        return  # its ref holds it
    if plan.defaults.refuse_model_egress:
        plan.guard.policy.is_closed = not await _is_open(plan, sandbox)
    else:
        plan.guard.policy.is_closed = False


async def _is_open(plan: Plan, sandbox: Sandbox) -> bool:
    """Return whether the sandbox has a network without bounds. One that may have bounds counts as bounded."""
    capabilities = sandbox.capabilities
    if plan.spec.network is not None:
        return plan.spec.network.mode == "open"
    if plan.sandbox is None and plan.attachment is None:  # made for this agent, by a spec without a network
        return capabilities.default_network == "open"
    if capabilities.networks <= {"open"}:
        return capabilities.default_network == "open"
    return (await sandbox.info()).resources.get("network") == "open"


def check_paths(paths: dict[str, str], missing: set[str]) -> None:
    """Refuse options that name a place which the sandbox does not have.

    Raises:
        ConfigError: By the option's name; it says when the place is on the host instead.
    """
    for name, path in paths.items():
        if name not in missing:
            continue
        if os.path.exists(path):
            raise ConfigError(
                f"options.{name} is {path!r}: it exists on this machine, but not in the sandbox. "
                + (
                    f"Give workspace={path!r} to have it uploaded, and leave cwd out"
                    if name == "cwd"
                    else "Give a directory that holds it as workspace=, and name the path inside"
                )
            )
        if name != "cli_path":  # of that one the SDK itself says so, by CLINotFoundError
            raise ConfigError(f"options.{name} is {path!r}: there is no such place in the sandbox")
