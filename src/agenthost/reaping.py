"""Ends what nobody owns any more."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Literal

import anyio

from agenthost.adapter.provider import GuestProvider
from agenthost.errors import AgentHostError, SandboxGoneError, SandboxNotFoundError
from agenthost.owners import OWNER_LABEL, forget_old_owners, read_owners
from agenthost.registry import open_provider
from agenthost.sandbox import SandboxInfo, SandboxProvider, SupportsBuilders

_log = logging.getLogger("agenthost.reap")

Outcome = Literal["reaped", "kept", "failed"]

_AT_ONCE = 8
_LOOK = 10.0  # seconds in which a guest should tell who drives
_CLOCK = 60.0  # seconds by which a provider's clock may be behind
_PATIENCE = 60.0  # seconds that the end of one sandbox may take


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    """What was decided about one sandbox, or one builder of an image.

    Attributes:
        info: What its provider says of it.
        outcome: ``reaped`` (or would be, in a dry run), ``kept``, or ``failed``.
        reason: Why, in words.
    """

    info: SandboxInfo
    outcome: Outcome
    reason: str


async def reap(
    provider: str | SandboxProvider = "local",
    *,
    labels: Mapping[str, str] | None = None,
    dry_run: bool = False,
    unknown: bool = False,
) -> list[Reaped]:
    """End every sandbox that has outlived its end or lost its owner, and tell about all there are.

    What a provider makes images in is seen to likewise: a host that is killed meanwhile leaves it behind.

    An owner is the process that made a sandbox, or took over the agent in it. A sandbox has lost it when that
    process has ended without ending it or handing it on by ``detach``. A living owner's sandbox is never
    touched, nor one whose agent is known to have a driver now, nor one that was handed on, which ends by its
    own end.

    Args:
        provider: A name, or an open provider.
        labels: Only sandboxes with these labels, and no builders of images, which have none.
        dry_run: Only tell.
        unknown: Also end those whose owner this machine and user know nothing of, if their guests say that
            nobody drives. Another machine's sandboxes are among these.

    Returns:
        One entry for each sandbox, in the provider's order, then one for each builder.
    """
    async with AsyncExitStack() as stack:
        if isinstance(provider, str):
            provider = await stack.enter_async_context(open_provider(provider))
        judged: list[Callable[[], Awaitable[Reaped]]] = [
            partial(_judge, provider, info, dry_run=dry_run, unknown=unknown)
            async for info in provider.list(labels)
        ]
        if not labels and isinstance(provider, SupportsBuilders):
            judged += [
                partial(_judge_builder, provider, info, dry_run=dry_run) async for info in provider.builders()
            ]
        found: dict[int, Reaped] = {}
        slots = anyio.CapacityLimiter(_AT_ONCE)

        async def see_to(number: int, judge: Callable[[], Awaitable[Reaped]]) -> None:
            async with slots:
                found[number] = await judge()

        async with anyio.create_task_group() as tasks:
            for number, judge in enumerate(judged):
                tasks.start_soon(see_to, number, judge)
    forget_old_owners()
    return [found[number] for number in sorted(found)]


async def _judge(provider: SandboxProvider, info: SandboxInfo, *, dry_run: bool, unknown: bool) -> Reaped:
    # Owners are read after the sandbox was seen, and once more before it is ended: whoever made it or took it
    # over has its record by then.
    verdict = _verdict(info)
    if verdict.fate == "unknown" and not unknown:
        return Reaped(info=info, outcome="kept", reason=verdict.reason)
    if verdict.fate == "kept":
        return Reaped(info=info, outcome="kept", reason=verdict.reason)
    try:
        if isinstance(provider, GuestProvider) and info.state == "running":
            driven = await _is_driven(provider, info)
            if driven:
                return Reaped(info=info, outcome="kept", reason="its agent has a driver")
            if driven is None and verdict.fate == "unknown":
                return Reaped(info=info, outcome="kept", reason="it cannot be asked whether somebody drives")
        if not dry_run:
            again = _verdict(info)
            if again.fate == "kept":
                return Reaped(info=info, outcome="kept", reason=again.reason)
            with anyio.fail_after(_PATIENCE):
                await _end(provider, info.id)
    except (SandboxNotFoundError, SandboxGoneError):
        return Reaped(info=info, outcome="reaped", reason="it has ended meanwhile")
    except (AgentHostError, TimeoutError, OSError) as error:
        _log.warning("sandbox %s could not be reaped: %s", info.name, error)
        return Reaped(info=info, outcome="failed", reason=str(error) or f"not within {_PATIENCE:g} s")
    return Reaped(info=info, outcome="reaped", reason=verdict.reason)


async def _judge_builder(provider: SupportsBuilders, info: SandboxInfo, *, dry_run: bool) -> Reaped:
    # It cannot be asked whether somebody works with it: an owner that is not known here may.
    verdict = _verdict(info)
    reason = f"a builder of images: {verdict.reason}"
    if verdict.fate != "lost":
        return Reaped(info=info, outcome="kept", reason=reason)
    try:
        if not dry_run:
            with anyio.fail_after(_PATIENCE):
                await provider.remove_builder(info.id)
    except (AgentHostError, TimeoutError, OSError) as error:
        _log.warning("builder %s could not be reaped: %s", info.name, error)
        return Reaped(info=info, outcome="failed", reason=str(error) or f"not within {_PATIENCE:g} s")
    return Reaped(info=info, outcome="reaped", reason=reason)


async def _is_driven(provider: GuestProvider, info: SandboxInfo) -> bool | None:
    """Whether somebody drives an agent there now: on another machine, perhaps. None: it does not say."""
    try:
        with anyio.fail_after(_LOOK):
            sandbox = await provider.get(info.id)
            return any(agent.driven for agent in await sandbox.agents())
    except (SandboxNotFoundError, SandboxGoneError):
        raise
    except (AgentHostError, TimeoutError, OSError) as error:
        _log.debug("sandbox %s does not tell who drives: %s", info.name, error)
        return None


async def _end(provider: SandboxProvider, sandbox_id: str) -> None:
    if isinstance(provider, GuestProvider):
        # Without a link: one that was made with another secret, is paused or hangs ends, too.
        await (await provider.reach(sandbox_id)).terminate()
    else:
        await (await provider.get(sandbox_id)).terminate()


@dataclass(frozen=True, slots=True)
class _Verdict:
    fate: Literal["lost", "kept", "unknown"]
    reason: str


def _verdict(info: SandboxInfo) -> _Verdict:
    """Return what the records of this machine's owners say of a sandbox now."""
    if info.state == "ended":
        return _Verdict("lost", "it has ended")
    owners = list(read_owners())
    noted = [(owner, note) for owner in owners if (note := owner.notes.get((info.provider, info.id)))]
    if any(owner.alive and note.what == "owned" for owner, note in noted):
        return _Verdict("kept", "its owner lives")
    # By every clock: one that was set forward ends nothing.
    now = min([time.time(), *(note.now() for _, note in noted)])
    if info.expires_at is not None and info.expires_at + _CLOCK < now:
        return _Verdict("lost", "its end is over")
    if noted:
        # The last word counts: it may have gone from one owner to the next several times.
        _, last = max(noted, key=lambda one: one[1].at)
        if last.what == "handed_on":
            return _Verdict("kept", "it was handed on, and ends by its own end")
        if last.what == "owned":
            return _Verdict("lost", "its owner has ended")
    maker = next((owner for owner in owners if owner.id == info.labels.get(OWNER_LABEL)), None)
    if maker is None:
        return _Verdict("unknown", "its owner is not known here")
    return _Verdict("kept", "its owner lives") if maker.alive else _Verdict("lost", "its owner has ended")
