"""Opens the audit log of an agent that begins, or goes on with the one of an agent that was attached to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from agenthost.agent.audit.digests import Masker
from agenthost.agent.audit.log import AuditLog
from agenthost.agent.audit.settings import Audit, find_log
from agenthost.agent.audit.trail import AuditTrail
from agenthost.agent.plan import Plan
from agenthost.threads import in_thread

if TYPE_CHECKING:
    from agenthost.link.channel import AgentChannel
    from agenthost.link.client import GuestSandbox


async def open_trail(plan: Plan, guest: GuestSandbox, channel: AgentChannel) -> AuditTrail:
    """Return the trail of the agent that this host drives; one that does nothing where none is wanted.

    The log of an agent that was attached to goes on, where this user has one, unless the host says otherwise.

    Raises:
        AgentError: The log cannot be written.
    """
    trail = AuditTrail()
    agent, settings = channel.agent, plan.audit
    attachment = plan.attachment
    found = find_log(agent) if attachment is not None and settings is None else None
    if found is not None:
        settings = Audit(directory=found.parent)
    if settings is None or settings.level == "off":
        return trail
    log = await in_thread(
        partial(
            AuditLog.of, agent, settings.directory, masker=Masker(secrets_of(plan)), restore=trail.restore
        )
    )
    level = trail.level if found is not None and trail.level in ("digest", "full") else settings.level
    start = 0 if attachment is None or attachment.start is None else attachment.start.offset
    # A driver in between, or one before the first record, may have read what is not in this log.
    whole = start <= log.last or (not log.fresh and channel.epoch == trail.epoch + 1)
    trail.begin(log, full=level == "full", whole=whole)
    common = {"epoch": channel.epoch, "level": level}
    try:
        if attachment is None:
            trail.lifecycle("created", **common, **_describe(plan, guest))
        else:
            trail.lifecycle("attached", **common, after=start)
    except BaseException:
        trail.close()
        raise
    return trail


def _describe(plan: Plan, guest: GuestSandbox) -> dict[str, Any]:
    fields, network = plan.options.fields, plan.spec.network
    return {
        "provider": guest.provider,
        "sandbox": guest.name,
        "isolation": guest.capabilities.isolation,
        "network": guest.capabilities.default_network if network is None else network.mode,
        "credentials": plan.credentials,
        "permission_mode": fields.get("permission_mode") or "default",
        "allowed_tools": list(map(str, fields.get("allowed_tools") or ())),
        "disallowed_tools": list(map(str, fields.get("disallowed_tools") or ())),
        "can_use_tool": plan.options.callbacks.can_use_tool is not None,
        "hooks": sorted(plan.options.callbacks.hooks),
    }


def secrets_of(plan: Plan) -> Iterator[str]:
    """Yield the secrets that this host knows of an agent."""
    from agenthost.config.secrets import names_secret

    if plan.access is not None:
        for _, value in plan.access.headers():
            yield value
            yield value.removeprefix("Bearer ")
    for one in plan.spec.inject:
        yield one.secret
    variables: list[Mapping[str, Any]] = [plan.options.env, plan.spec.env]
    servers: object = plan.options.fields.get("mcp_servers")
    for server in cast("dict[str, Any]", servers).values() if isinstance(servers, dict) else ():
        settings = cast("dict[str, Any]", server) if isinstance(server, dict) else {}
        variables += [found for key in ("env", "headers") if isinstance(found := settings.get(key), dict)]
    for texts in variables:
        for name, value in texts.items():
            if isinstance(value, str) and names_secret(name):
                yield value
                yield value.removeprefix("Bearer ")
