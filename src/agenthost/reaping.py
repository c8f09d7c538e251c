"""Ends what nobody owns any more."""

from __future__ import annotations

import logging
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal

import anyio

from agenthost.errors import AgentHostError, SandboxGoneError, SandboxNotFoundError
from agenthost.guest.provider import GuestProvider
from agenthost.owners import OWNER_LABEL, OwnerRecord, forget_old_owners, read_owners
from agenthost.registry import open_provider
from agenthost.sandbox import SandboxInfo, SandboxProvider

_log = logging.getLogger("agenthost.reap")

Outcome = Literal["reaped", "kept", "failed"]

_AT_ONCE = 8
_LOOK = 10.0  # seconds in which a guest should tell who drives
_PATIENCE = 60.0  # seconds that the end of one sandbox may take


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    """What was decided about one sandbox.

    Attributes:
        info: What its provider says of it.
        outcome: ``reaped`` (or would be, in a dry run), ``kept``, or ``failed``.
        reason: Why, in words.
    """

    info: SandboxInfo
    outcome: Outcome
    reason: str


async def reap(
    provider: str | SandboxProvider = "local", *, dry_run: bool = False, unknown: bool = False
) -> list[Reaped]:
    """End every sandbox that has outlived its end or lost its owner, and tell about all there are.

    An owner is the process that made a sandbox, or took over the agent in it. It has lost it when that
    process has ended without ending it or handing it on by ``detach``. A living owner's sandbox is never
    touched, nor one whose agent has a driver now, nor one that was handed on, which ends by its own end.

    Args:
        provider: A name, or an open provider.
        dry_run: Only tell.
        unknown: Also end those whose owner this machine and user know nothing of. Another machine's
            sandboxes are among these.

    Returns:
        One entry for each sandbox, in the provider's order.
    """
    async with AsyncExitStack() as stack:
        if isinstance(provider, str):
            provider = await stack.enter_async_context(open_provider(provider))
        # Owners first: one that dies after this is found by the next reap.
        owners = list(read_owners())
        infos = [info async for info in provider.list()]
        found: dict[int, Reaped] = {}
        slots = anyio.CapacityLimiter(_AT_ONCE)

        async def see_to(number: int, info: SandboxInfo) -> None:
            async with slots:
                found[number] = await _judge(provider, info, owners, dry_run=dry_run, unknown=unknown)

        async with anyio.create_task_group() as tasks:
            for number, info in enumerate(infos):
                tasks.start_soon(see_to, number, info)
    forget_old_owners()
    return [found[number] for number in sorted(found)]


async def _judge(
    provider: SandboxProvider,
    info: SandboxInfo,
    owners: list[OwnerRecord],
    *,
    dry_run: bool,
    unknown: bool,
) -> Reaped:
    lost, reason = _is_lost(info, owners, unknown=unknown)
    if not lost:
        return Reaped(info=info, outcome="kept", reason=reason)
    try:
        if isinstance(provider, GuestProvider) and await _is_driven(provider, info):
            return Reaped(info=info, outcome="kept", reason="its agent has a driver")
        if not dry_run:
            with anyio.fail_after(_PATIENCE):
                await _end(provider, info.id)
    except (SandboxNotFoundError, SandboxGoneError):
        return Reaped(info=info, outcome="reaped", reason="it has ended meanwhile")
    except (AgentHostError, TimeoutError, OSError) as error:
        _log.warning("sandbox %s could not be reaped: %s", info.name, error)
        return Reaped(info=info, outcome="failed", reason=str(error) or f"not within {_PATIENCE:g} s")
    return Reaped(info=info, outcome="reaped", reason=reason)


async def _is_driven(provider: GuestProvider, info: SandboxInfo) -> bool:
    """Whether somebody drives an agent there now: on another machine, perhaps, or just attached."""
    if info.state != "running":
        return False
    try:
        with anyio.fail_after(_LOOK):
            sandbox = await provider.get(info.id)
            return any(agent.driven for agent in await sandbox.agents())
    except (AgentHostError, TimeoutError, OSError) as error:
        _log.debug("sandbox %s does not tell who drives: %s", info.name, error)
        return False


async def _end(provider: SandboxProvider, sandbox_id: str) -> None:
    if isinstance(provider, GuestProvider):
        # Without a link: one that was made with another secret, is paused or hangs ends, too.
        await (await provider.reach(sandbox_id)).terminate()
    else:
        await (await provider.get(sandbox_id)).terminate()


def _is_lost(info: SandboxInfo, owners: list[OwnerRecord], *, unknown: bool) -> tuple[bool, str]:
    if info.state == "ended":
        return True, "it has ended"
    if info.expires_at is not None and info.expires_at < time.time():
        return True, "its end is over"
    called = {info.id, info.name}
    if any(owner.alive and called & owner.owned for owner in owners):
        return False, "its owner lives"
    if any(not owner.alive and called & owner.owned for owner in owners):
        return True, "its owner has ended"
    if any(called & owner.handed_on for owner in owners):
        return False, "it was handed on, and ends by its own end"
    maker = next((owner for owner in owners if owner.id == info.labels.get(OWNER_LABEL)), None)
    if maker is None:
        return unknown, "its owner is not known here"
    return (False, "its owner lives") if maker.alive else (True, "its owner has ended")
