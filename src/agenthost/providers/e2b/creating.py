"""Make a sandbox, once, so that nothing is left when it fails."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.lowlevel

from agenthost.adapter.provider import NONCE_LABEL
from agenthost.errors import AgentHostError, ConfigError, UnsupportedError
from agenthost.providers.e2b.client import BusyError, Client, UnclearError
from agenthost.providers.e2b.network import network_options
from agenthost.providers.e2b.places import MARK, NAME, WORKDIR, WORKDIR_MARK
from agenthost.spec import DEFAULT_LIFETIME, SandboxSpec

if TYPE_CHECKING:
    from e2b import AsyncSandbox, SandboxInfo

_log = logging.getLogger("agenthost.providers.e2b")

# Seconds that making one may take with all its calls, and ending it again: together they are how long who is
# cancelled in it waits.
_MAKING = 75.0
_CLEANUP = 15.0
_LOOKS = (0.0, 0.5, 1.0, 2.0, 4.0)  # seconds before each look for a sandbox whose making was not answered
_UNSURE = (UnclearError, BusyError)  # it may have been made nevertheless
_LONGEST = re.compile(r"greater than (\d+(?:\.\d+)?) hour")


class PlanLimitError(UnsupportedError):
    """The plan of the account has a shorter longest lifetime.

    Attributes:
        hours: What E2B allows.
    """

    def __init__(self, message: str, hours: float) -> None:
        super().__init__(message)
        self.hours = hours


async def create_sandbox(client: Client, spec: SandboxSpec, template: str, *, public: bool) -> AsyncSandbox:
    """Make a sandbox of a template.

    Raises:
        ConfigError: Its name is taken, or there is no such template.
        PlanLimitError: It would live too long.
    """
    if [info async for info in find(client, {NAME: spec.name or ""})]:
        raise ConfigError(f"there is a sandbox called {spec.name} already")
    made: AsyncSandbox | None = None
    is_whole = False
    try:
        # Cancelled in the middle, nobody could say whether it is there.
        with anyio.move_on_after(_MAKING, shield=True):
            made = await _create(client, spec, template, public=public)
            await _lease(client, spec, made.sandbox_id)
            is_whole = True
        await anyio.lowlevel.checkpoint()
        if made is None or not is_whole:
            raise UnclearError(f"making sandbox {spec.name}: E2B did not answer in time")
        return made
    except BaseException as exc:
        # What E2B did not take is not there, if no try before that may have been taken. Otherwise what has
        # our nonce is ours.
        if made is not None or not isinstance(exc, AgentHostError) or isinstance(exc, _UNSURE):
            with anyio.move_on_after(_CLEANUP, shield=True):
                await _end(client, spec, made)
        raise


async def find(
    client: Client, metadata: dict[str, str], *, order: Literal["asc", "desc"] | None = None
) -> AsyncGenerator[SandboxInfo]:
    """Yield what E2B has with this metadata, running or paused."""
    sandboxes = await client.sandboxes()  # which loads the vendor's package, not on the event loop
    from e2b import SandboxQuery

    pages = sandboxes.list(SandboxQuery(metadata=metadata), order=order)
    while pages.has_next:
        async with client.asking("listing the sandboxes"):
            found = await pages.next_items()
        for info in found:
            yield info


async def connect(client: Client, info: SandboxInfo) -> AsyncSandbox:
    """Return a sandbox that is known to run, with the token that its programs ask for.

    The vendor's call would resume one that was paused since it was asked after; the end of such a one, and of
    any other, is not moved by it.
    """
    left = info.end_at.timestamp() - time.time()
    async with client.asking(f"connecting to sandbox {info.sandbox_id}"):
        return await (await client.sandboxes()).connect(info.sandbox_id, timeout=max(1, math.floor(left)))


def metadata_of(spec: SandboxSpec) -> dict[str, str]:
    """Return what a sandbox is known by."""
    workdir = {} if spec.workdir in (None, WORKDIR) else {WORKDIR_MARK: str(spec.workdir)}
    return {**spec.labels, **workdir, NAME: spec.name or "", MARK: "e2b"}


async def _create(client: Client, spec: SandboxSpec, template: str, *, public: bool) -> AsyncSandbox:
    lifetime = spec.max_lifetime or DEFAULT_LIFETIME
    secrets = tuple(header.secret for header in spec.inject)
    try:
        async with client.asking(f"making sandbox {spec.name} of template {template}", secrets=secrets):
            return await (await client.sandboxes()).create(
                template,
                timeout=math.ceil(lifetime),  # the whole of it, also with a lease: the plan must allow it
                metadata=metadata_of(spec),
                # With a key of its own the client may try again: E2B then makes one, not two. Letters and
                # digits alone: not every installation takes more.
                idempotency_key=spec.labels[NONCE_LABEL],
                lifecycle={"on_timeout": "kill"},
                **network_options(spec, public=public),
            )
    except ConfigError as exc:
        longest = _LONGEST.search(str(exc))
        if longest is None:
            raise
        raise PlanLimitError(
            f"max_lifetime={lifetime:g}: the plan of this E2B account allows {longest[1]} hours at most",
            float(longest[1]),
        ) from exc
    except _UNSURE as unclear:
        try:
            found = await _look(client, spec)
            if found is not None:
                return await connect(client, found)
        except AgentHostError as again:
            raise unclear from again  # it may still be there
        raise


async def _lease(client: Client, spec: SandboxSpec, sandbox_id: str) -> None:
    """Let it end with its lease, where it has one: E2B was told its whole lifetime."""
    if spec.lease is None:
        return
    seconds = math.ceil(min(spec.lease, spec.max_lifetime or DEFAULT_LIFETIME))
    async with client.asking(f"giving sandbox {spec.name} its lease"):
        await (await client.sandboxes()).set_timeout(sandbox_id, seconds)


async def _look(client: Client, spec: SandboxSpec) -> SandboxInfo | None:
    """Return the very sandbox whose making was not answered; it may be there a moment later."""
    for pause in _LOOKS:
        await anyio.sleep(pause)
        found = [info async for info in find(client, _ours(spec))]
        if found:
            return found[0]
    return None


async def _end(client: Client, spec: SandboxSpec, made: AsyncSandbox | None) -> None:
    """End what may be there. It ends by itself, later, where E2B does not answer."""
    try:
        await _kill(client, spec, made)
    except AgentHostError as error:
        _log.warning("sandbox %s may be left until its lifetime is over: %s", spec.name, error)


async def _kill(client: Client, spec: SandboxSpec, made: AsyncSandbox | None) -> None:
    ids = (
        [made.sandbox_id]
        if made is not None
        else [info.sandbox_id async for info in find(client, _ours(spec))]
    )
    for sandbox_id in ids:
        async with client.asking(f"ending sandbox {sandbox_id}"):
            await (await client.sandboxes()).kill(sandbox_id)


def _ours(spec: SandboxSpec) -> dict[str, str]:
    return {NAME: spec.name or "", NONCE_LABEL: spec.labels[NONCE_LABEL]}
