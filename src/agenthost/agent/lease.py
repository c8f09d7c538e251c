"""Keeps a leased sandbox alive while its agent works, and no longer."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from agenthost.errors import AgentHostError, SandboxGoneError
from agenthost.guest.client import GuestSandbox
from agenthost.guest.provider import LEASE_LABEL
from agenthost.supports import SupportsLease

_log = logging.getLogger("agenthost.agent")

_UNKNOWN = 3.0  # seconds: a lease that could not be asked for
_RENEWALS = 3  # within one lease, so that one of them may fail


async def renew_lease(guest: GuestSandbox, works: Callable[[], bool]) -> None:
    """Extend the sandbox's lease as long as ``works`` says so; returns at once where there is none.

    An agent that waits for a prompt lets its lease run out.
    """
    backend = guest.backend
    if not guest.capabilities.lease or not isinstance(backend, SupportsLease):
        return
    seconds: float | None = None
    while seconds != 0:
        try:
            if seconds is None:
                seconds = float((await guest.info()).labels.get(LEASE_LABEL, "0"))
            if seconds and works():
                await backend.extend(seconds)
        except SandboxGoneError:
            return
        except (AgentHostError, OSError) as error:
            _log.warning("the lease of sandbox %s was not renewed: %s", guest.name, error)
        await anyio.sleep((seconds or _UNKNOWN) / _RENEWALS)
