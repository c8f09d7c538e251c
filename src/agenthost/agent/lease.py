"""Keeps a leased sandbox alive while its agent works, and no longer."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from agenthost.errors import AgentHostError
from agenthost.guest.client import GuestSandbox
from agenthost.guest.provider import LEASE_LABEL
from agenthost.sandbox import SupportsLease

_log = logging.getLogger("agenthost.agent")

_RENEWALS = 3  # within one lease, so that one of them may fail


async def renew_lease(guest: GuestSandbox, works: Callable[[], bool]) -> None:
    """Extend the sandbox's lease as long as ``works`` says so; returns at once where there is none.

    An agent that waits for a prompt lets its lease run out.
    """
    backend = guest.backend
    if not guest.capabilities.lease or not isinstance(backend, SupportsLease):
        return
    try:
        seconds = float((await guest.info()).labels.get(LEASE_LABEL, "0"))
        while seconds:
            if works():
                await backend.extend(seconds)
            await anyio.sleep(seconds / _RENEWALS)
    except (AgentHostError, OSError) as error:
        _log.warning("the lease of sandbox %s is not renewed any more: %s", guest.name, error)
