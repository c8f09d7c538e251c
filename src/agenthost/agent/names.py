"""Names of agents."""

from __future__ import annotations

import secrets


def new_agent_id() -> str:
    """Return a random name: several hosts may start agents in one sandbox."""
    return "agent-" + secrets.token_hex(6)
