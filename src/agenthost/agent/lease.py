"""A sandbox's end: a lease is renewed while the agent works, and moved for who wants it to be kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import anyio

from agenthost.adapter.record import LEASE_LABEL
from agenthost.errors import AgentHostError, ConfigError, SandboxGoneError, UnsupportedError
from agenthost.link.client import GuestSandbox
from agenthost.supports import SupportsLease

_log = logging.getLogger("agenthost.agent")

_UNKNOWN = 3.0  # seconds: a lease that could not be asked for
_ASKING = 1.0  # seconds that an end may be earlier than was asked for, by the time that asking took
_RENEWALS = 3  # within one lease, so that one of them may fail


async def live_for(guest: GuestSandbox, seconds: float, *, stop_renewing: Callable[[], None]) -> None:
    """See to it that a sandbox lives for so many seconds, if it can.

    Raises:
        ConfigError: That is no time to live.
        UnsupportedError: It ends before.
    """
    if seconds <= 0:
        raise ConfigError(f"keep_for={seconds!r}; it must be above 0")
    expires = (await guest.info()).expires_at
    left = None if expires is None else expires - time.time()
    if left is not None and left < seconds and isinstance(guest.backend, SupportsLease):
        stop_renewing()  # the next renewal would shorten it again
        await guest.backend.extend(seconds)
        expires = (await guest.info()).expires_at
        left = None if expires is None else expires - time.time() + _ASKING
    if left is not None and left < seconds:
        raise UnsupportedError(
            f"sandbox {guest.name} ends in {left:.0f} s, before keep_for={seconds:g} is over; "
            "give SandboxSpec(max_lifetime=...) when it is made"
        )


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
