"""The points of a security report: the seven of the hosting guide, and the bounds of an agent."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, cast

from agenthost.agent.security_report import Finding, Setup
from agenthost.spec import Mount

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
    source = PurePosixPath(os.path.normpath(mount.source))
    for name in _POWERFUL:
        if source == PurePosixPath(name) or source in PurePosixPath(name).parents:
            return f"holds {name}, by which a program inside could act as root of this machine"
        if PurePosixPath(name) in source.parents:
            return "is a door to this machine's kernel or container engine"
    home = PurePosixPath(os.path.normpath(os.path.expanduser("~")))
    if source == home or source in home.parents:
        return "holds your home directory, and the credentials in it"
    is_secret = any(source == home / name or home / name in source.parents for name in _SECRET)
    return "holds credentials of yours" if is_secret else ""


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
    return _found("turns and budget", "pass", f"{turns} turns for each prompt, {dollars:g} dollars")


def check_permission_mode(setup: Setup) -> Finding:
    """Who is asked before a tool runs."""
    name, mode = "permission mode", setup.options.fields.get("permission_mode") or "default"
    if mode == "bypassPermissions":
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
            if field in setup.capabilities.limits:
                return _found(name, "pass", f"at most {value}{unit}")
            detail = f"{setup.provider} cannot enforce limits.{field}, and refuses the sandbox"
            return _found(name, "fail", detail, f"Leave limits.{field} out, or use another provider")
        if setup.is_remote:
            return _found(name, "pass", "it is the vendor's, bounded by the size of the sandbox")
        return _found(name, "warn", f"no cap: {what}", fix)

    check.__doc__ = f"How much of the host's {name} the agent may take."
    return check


check_memory = _cap(
    "memory_mib",
    "no bound on memory but the provider's default, if it has one",
    "Set ResourceLimits(memory_mib=...)",
)
check_pids = _cap(
    "pids", "no bound on processes but the provider's default, if it has one", "Set ResourceLimits(pids=...)"
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
    return _found(name, "pass", f"{', '.join(bounds)}, {dollars:g} dollars")


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
