"""What the sandboxes of a Worker reach: as the Worker was deployed, the same for all of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Literal, TypeAlias

from agenthost.errors import ConfigError, UnsupportedError
from agenthost.sandbox import Capabilities
from agenthost.spec import NetworkPolicy

Egress: TypeAlias = Literal["open", "closed"]


def capabilities_of(usual: Capabilities, egress: Egress) -> Capabilities:
    """Return what sandboxes can do behind a Worker with this egress. Raises ConfigError for another one."""
    if egress == "open":
        return usual
    if egress != "closed":
        raise ConfigError(f"egress={egress!r} is not valid: known are 'open' and 'closed'")
    return replace(usual, networks=frozenset({"none", "allow"}), default_network="none")


def refuse_other_network(policy: NetworkPolicy | None, allowed: Collection[str]) -> None:
    """Refuse a policy that is not the Worker's.

    Args:
        policy: What a spec asks for; ``open`` was refused before where the Worker is closed.
        allowed: The hosts that the Worker lets sandboxes reach.

    Raises:
        UnsupportedError: The policy is another one.
    """
    if policy is None or policy.mode == "open":
        return
    hosts = {host.lower() for host in policy.hosts} if policy.mode == "allow" else set[str]()
    if hosts != set(allowed):
        reached = ", ".join(sorted(allowed)) or "no host"
        raise UnsupportedError(
            f"network={policy.mode}: the Worker lets its sandboxes reach {reached}, as ALLOWED_HOSTS in its "
            "wrangler.jsonc states"
        )
