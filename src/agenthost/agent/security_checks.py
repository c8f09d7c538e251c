"""The points of a security report: the seven of the hosting guide, and the bounds of an agent."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, cast

from agenthost.agent.security_report import Finding, Setup
from agenthost.spec import Mount
from agenthost.statedir import state_directory

# What a program inside could take the host over with, or act for its user, although it cannot write there.
_POWERFUL = (
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd",
    "/run/podman",
    "/proc",
    "/dev",
    "/sys",
)
# What is this machine's own: its accounts and keys, and other people's files.
_PRIVATE = ("/etc", "/home", "/var/lib", "/run", "/boot")
_KEYS = ("/etc/ssh", "/etc/ssl/private", "/etc/shadow", "/etc/sudoers.d", "/root")  # and all below
_SECRET = (
    ".ssh",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".gnupg",
    ".config/gcloud",
    ".git-credentials",
    ".netrc",
)
# Beyond these a bound stops nothing that anybody would call an accident.
_MOST_TURNS = 10_000
_MOST_DOLLARS = 10_000.0
_BYPASS = "bypassPermissions"
_WEB = ("WebFetch", "WebSearch")  # the way out that needs no network: the model's servers do it


def check_isolation(setup: Setup) -> Finding:
    """What separates the agent from this machine."""
    kind = setup.capabilities.isolation
    if kind == "none":
        fix = "Use an isolated provider: local, docker, or a cloud"
        return _found(
            "isolation", "fail", f"{setup.provider} isolates nothing: the agent can do what you can", fix
        )
    kernel = "with a kernel of its own" if setup.is_machine else "the kernel is shared with its host"
    return _found("isolation", "pass", f"{kind}, {kernel}")


def check_network(setup: Setup) -> Finding:
    """Where the agent's programs can send what they find."""
    mode = setup.network
    if mode not in setup.capabilities.networks | {setup.capabilities.default_network}:
        fix = "Use a provider that can, or leave network out"
        return _found(
            "network", "fail", f"{setup.provider} cannot enforce {mode}, and refuses the sandbox", fix
        )
    if mode == "open":
        fix = "Give network=NetworkPolicy.none(), or allow([...]) where the provider can"
        return _found(
            "network", "warn", "open: programs inside reach everything that the sandbox's network does", fix
        )
    hosts = ", ".join(setup.spec.network.hosts) if setup.spec.network is not None else ""
    return _found(
        "network", "pass", f"only {hosts}" if mode == "allow" else "none but the model, through the host"
    )


def check_mounts(setup: Setup) -> Finding:
    """What of this machine's files the agent sees."""
    if setup.capabilities.isolation == "none":
        fix = "Use an isolated provider, and bring files in with workspace="
        return _found("mounts", "fail", "the host's files are there as they are, writable", fix)
    mounts = setup.spec.mounts
    for mount in mounts:
        if danger := _danger(mount):
            return _found(
                "mounts", "fail", f"{mount.source} {danger}", f"Leave out the mount of {mount.source}"
            )
    return _found("mounts", "pass", f"{len(mounts)}, read-only" if mounts else "none; files travel as copies")


def _danger(mount: Mount) -> str:
    """Return why something must not be mounted; empty where it may be."""
    return _danger_of(os.path.normpath(mount.source)) or _danger_of(os.path.realpath(mount.source))


def _danger_of(path: str) -> str:
    source = PurePosixPath(path)
    for name in _POWERFUL:
        if PurePosixPath(name) in (source, *source.parents):
            return "is a door to this machine's kernel or container engine"
        if source in PurePosixPath(name).parents:
            return f"holds {name}, by which a program inside could act as root of this machine"
    home = PurePosixPath(os.path.realpath(os.path.expanduser("~")))
    if source == home or source in home.parents:
        return "holds your home directory, and the credentials in it"
    if any(home / name in (source, *source.parents) for name in _SECRET):
        return "holds credentials of yours"
    state = PurePosixPath(os.path.realpath(state_directory()))
    if state in (source, *source.parents) or source in state.parents:
        return "holds agenthost's own state, with the keys of its sandboxes"
    if str(source) in _PRIVATE or any(PurePosixPath(name) in (source, *source.parents) for name in _KEYS):
        return "holds accounts, keys or files of everybody on this machine"
    if str(source.parent) == "/home":
        return "is the home directory of another user"
    return ""


def check_secrets(setup: Setup) -> Finding:
    """Whether the agent can read what others could use."""
    name = "credentials"
    if setup.credentials == "env":
        detail = "the model's key is inside, where the agent can read it"
        fix = "Use credentials='host', or 'provider' for agents that work on without a host"
        if setup.network == "open":
            return _found(name, "fail", f"{detail} and send it away", fix)
        return _found(name, "warn", detail, fix)
    inside = sorted(_secrets_inside(setup))
    if inside:
        fix = "Serve what needs them from this process, as an in-process MCP server, or inject their headers"
        return _found(name, "warn", f"secrets that the agent can read: {', '.join(inside)}", fix)
    where = (
        "on this host"
        if setup.credentials == "host"
        else "with the provider, which adds it outside the sandbox"
    )
    return _found(name, "pass", f"the model's key stays {where}; none is inside")


def _secrets_inside(setup: Setup) -> set[str]:
    from agenthost.config.secrets import names_secret

    found = {name for name in (*setup.options.env, *setup.spec.env) if names_secret(name)}
    found -= {"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"}  # taken out before the sandbox is made
    servers: object = setup.options.fields.get("mcp_servers")
    for server, config in cast("dict[str, Any]", servers).items() if isinstance(servers, dict) else ():
        for part in ("env", "headers"):
            texts: object = config.get(part) if isinstance(config, Mapping) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
            if isinstance(texts, Mapping):
                keys = cast("Mapping[str, object]", texts)
                found |= {f"mcp_servers.{server}.{part}.{key}" for key in keys if names_secret(key)}
    return found


def check_audit(setup: Setup) -> Finding:
    """Whether there will be a record of what the agent did."""
    level = setup.audit.level
    if level == "off":
        fix = 'Give audit="digest", or [audit] level = "digest"'
        return _found("audit", "warn", "off: nothing tells afterwards what was done and who allowed it", fix)
    return _found("audit", "pass", f"level {level}")


def check_turns(setup: Setup) -> Finding:
    """How long the agent may go on, and for how much money."""
    turns, dollars = setup.option("max_turns"), _dollars(setup)
    missing = [name for name, value in (("max_turns", turns), ("max_budget_usd", dollars)) if value is None]
    if missing:
        detail = f"no {' and no '.join(missing)}: an agent that goes in circles is not stopped"
        return _found(
            "turns and budget",
            "fail" if len(missing) == 2 else "warn",
            detail,
            f"Set {' and '.join(missing)}",
        )
    assert dollars is not None
    detail = f"{turns} turns for each prompt, {dollars:g} dollars"
    if turns > _MOST_TURNS or dollars > _MOST_DOLLARS:
        fix = "Set what the longest task of yours needs"
        return _found("turns and budget", "warn", f"{detail}: so much stops no agent", fix)
    return _found("turns and budget", "pass", detail)


def check_permission_mode(setup: Setup) -> Finding:
    """Who is asked before a tool runs."""
    name, mode = "permission mode", setup.options.fields.get("permission_mode") or "default"
    if by := _bypass(setup):
        mode = _BYPASS if by == "permission_mode" else f"{_BYPASS} ({by})"
        fix = "Use permission_mode='dontAsk' with allowed_tools, or a can_use_tool that decides"
        if setup.capabilities.isolation == "none":
            return _found(
                name, "fail", f"{mode} where nothing isolates: anything runs on this machine, unasked", fix
            )
        return _found(name, "warn", f"{mode}: every tool runs unasked; the sandbox alone is the bound", fix)
    asks = setup.options.callbacks.can_use_tool is not None or bool(setup.options.callbacks.hooks)
    return _found(
        name, "pass", f"{mode}, {'decided by functions of yours' if asks else 'refused where it would ask'}"
    )


def _bypass(setup: Setup) -> str:
    """Return which of the options has tools run unasked; empty where none does."""
    fields = setup.options.fields
    if fields.get("permission_mode") == _BYPASS:
        return "permission_mode"
    flags: Mapping[str, object] = fields.get("extra_args") or {}
    if "dangerously-skip-permissions" in flags or flags.get("permission-mode") == _BYPASS:
        return "extra_args"
    if _default_mode(fields.get("settings")) == _BYPASS:
        return "settings"
    agents: Mapping[str, object] = fields.get("agents") or {}
    for agent, definition in agents.items():
        if getattr(definition, "permissionMode", None) == _BYPASS:
            return f"agents.{agent}"
    return ""


def _default_mode(settings: object) -> object:
    try:
        found: Any = json.loads(settings) if isinstance(settings, str) else settings
    except ValueError:
        return None  # a path: the file is read inside
    permissions: object = (
        cast("dict[str, Any]", found).get("permissions") if isinstance(found, dict) else None
    )
    return cast("dict[str, Any]", permissions).get("defaultMode") if isinstance(permissions, dict) else None


def check_tools(setup: Setup) -> Finding:
    """Whether tools that are not needed are blocked."""
    fields = setup.options.fields
    blocked = set(map(str, fields.get("disallowed_tools") or ()))
    listed: object = fields.get("tools")
    there = set(map(str, cast("list[object]", listed))) if isinstance(listed, list) else None
    allowed = set(map(str, fields.get("allowed_tools") or ()))
    refuses = fields.get("permission_mode") == "dontAsk"  # what allowed_tools does not name
    left = [
        tool
        for tool in _WEB
        if tool not in blocked
        and (there is None or tool in there)
        and not (refuses and not any(rule.partition("(")[0] == tool for rule in allowed))
    ]
    if left:
        words = ", ".join(left)
        fix = f"Give disallowed_tools={left!r}, or tools=[...] with those that are needed"
        return _found("blocked tools", "warn", f"{words} can carry data out, whatever the network is", fix)
    how = "disallowed_tools" if blocked else "tools" if there is not None else "dontAsk"
    return _found("blocked tools", "pass", f"ways out are blocked by {how}")


def check_settings(setup: Setup) -> Finding:
    """Whether files of an uploaded project can give the CLI orders."""
    sources = setup.option("setting_sources")
    if sources is None or list(sources):
        read = "all" if sources is None else ", ".join(map(str, sources))
        fix = "Leave setting_sources and skills out, so that SafeDefaults reads none"
        return _found(
            "settings", "warn", f"settings files are read ({read}), and can hold hooks and permissions", fix
        )
    if setup.options.fields.get("skills") is not None:
        fix = "Leave skills out for projects that are not yours"
        return _found("settings", "warn", "skills are read from the project, and so are its settings", fix)
    if not setup.option("strict_mcp_config"):
        fix = "Set strict_mcp_config=True"
        return _found("settings", "warn", "the project's own MCP servers are started", fix)
    return _found("settings", "pass", "no settings, skills or MCP servers of the project are read")


def _cap(field: str, what: str, fix: str) -> Callable[[Setup], Finding]:
    name = {"memory_mib": "memory", "pids": "processes", "disk_mib": "disk"}[field]

    def check(setup: Setup) -> Finding:
        value: int | None = getattr(setup.spec.limits, field)
        if value is not None:
            unit = "" if field == "pids" else " MiB"
            if field == "memory_mib" and not setup.is_remote and value > machine_mib():
                detail = f"{value} MiB are more than this machine has: no bound"
                return _found(name, "warn", detail, f"Set at most {machine_mib() // 2}")
            if field in setup.capabilities.limits:
                return _found(name, "pass", f"at most {value}{unit}")
            detail = f"{setup.provider} cannot enforce limits.{field}, and refuses the sandbox"
            return _found(name, "fail", detail, f"Leave limits.{field} out, or use another provider")
        if setup.is_remote:
            return _found(name, "pass", "it is the vendor's, bounded by the size of the sandbox")
        return _found(name, "warn", what, fix)

    check.__doc__ = f"How much of the host's {name} the agent may take."
    return check


check_memory = _cap(
    "memory_mib",
    "none is set: the provider's default, if it has one, is all that bounds it",
    "Set ResourceLimits(memory_mib=...)",
)
check_pids = _cap(
    "pids",
    "none is set: the provider's default, if it has one, is all that bounds them",
    "Set ResourceLimits(pids=...)",
)
check_disk = _cap(
    "disk_mib",
    "the agent can fill the file system that it is on",
    "Give the sandboxes a file system of their own, or ResourceLimits(disk_mib=...) where the provider can",
)


def check_model(setup: Setup) -> Finding:
    """How much the agent may ask of the model."""
    name = "model requests"
    requests = getattr(setup.limits, "model_requests", None)
    dollars = _dollars(setup)
    bounds = [f"{requests} requests"] if requests is not None else []
    bounds += [f"{setup.option('max_turns')} turns for each prompt"] if setup.option("max_turns") else []
    if setup.credentials != "host":
        fix = "Use credentials='host', with which this host counts what is asked"
        return _found(name, "warn", "the agent asks the model by itself: only the CLI inside counts", fix)
    if not bounds or dollars is None:
        fix = "Set max_turns and max_budget_usd in the options"
        return _found(name, "warn", "no bound in requests or in dollars", fix)
    if setup.defaults.other_models is None:
        fix = "Name the models in SafeDefaults(other_models=...)"
        return _found(name, "warn", "any model may be asked, the dearest too", fix)
    if setup.network != "open" and not setup.defaults.refuse_model_egress:
        fix = "Leave SafeDefaults.refuse_model_egress as it is"
        detail = "requests to the model may name addresses and tools of its service: a way out of the network"
        return _found(name, "warn", detail, fix)
    return _found(name, "pass", f"{', '.join(bounds)}, {dollars:g} dollars")


def machine_mib() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (1 << 20)


def _dollars(setup: Setup) -> float | None:
    budget: float | None = setup.options.fields.get("max_budget_usd")
    on_host: float | None = getattr(setup.limits, "model_usd", None)
    known = [float(one) for one in (budget, on_host) if one is not None]
    return min(known, default=None)


def _found(name: str, verdict: Any, detail: str, fix: str = "") -> Finding:
    return Finding(name=name, verdict=verdict, detail=detail, fix=fix)


CHECKS: tuple[Callable[[Setup], Finding], ...] = (
    check_isolation,
    check_mounts,
    check_secrets,
    check_audit,
    check_turns,
    check_permission_mode,
    check_tools,
    check_network,
    check_settings,
    check_memory,
    check_pids,
    check_disk,
    check_model,
)
