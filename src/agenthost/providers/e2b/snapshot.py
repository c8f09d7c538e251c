"""Keep a sandbox's files as a template."""

from __future__ import annotations

import logging
import re
import secrets

import anyio

from agenthost.errors import (
    AgentHostError,
    ConfigError,
    ProviderBusyError,
    ProviderError,
    UnsupportedError,
)
from agenthost.providers.e2b.client import E2BVendor

_log = logging.getLogger("agenthost.providers.e2b")

_SECONDS = 300.0  # for a snapshot, which takes longer the more is on the disk
_CLEANUP = 30.0  # seconds for removing what may be there
_LOOKS = 4  # how often the template is looked for: E2B may still be making it
_PAUSE = 3.0  # seconds between two looks
_DISABLED = re.compile(r"without memory\b.*\bnot enabled")
# What E2B says of a machine that is too old for it; its words are not known.
_OLD_NODE = re.compile(r"without memory|\bnode\b|orchestrator", re.IGNORECASE)


async def snapshot(vendor: E2BVendor, sandbox_id: str, doing: str, name: str | None) -> str:
    """Return the template of what a running sandbox has on its disk.

    Args:
        vendor: The client.
        sandbox_id: The sandbox.
        doing: What this is, in words that begin a message.
        name: The template's, with a tag if need be. A template that has the name already gets another build.
            None is a name of its own: the client may repeat the request without making two, and a template
            whose id was lost is found and removed.

    Raises:
        ConfigError: E2B does not accept the name.
        UnsupportedError: E2B does not do this for the account.
        SandboxNotFoundError: The sandbox does not run.
        ProviderError: It could not be made; the message states when a pause and a resume would help.
    """
    called = name or f"agenthost-snapshot-{secrets.token_hex(8)}"
    try:
        async with vendor.calling(doing, within=_SECONDS) as e2b:
            # E2B's default keeps the memory too. That is no image: a sandbox of it would begin with the guest
            # of this one, with its programs, its clock, and an environment full of secrets.
            made = await e2b.AsyncSandbox.create_snapshot(
                sandbox_id, called, mode="filesystem", request_timeout=_SECONDS
            )
        return made.snapshot_id
    except BaseException as exc:
        is_busy = isinstance(exc, ProviderBusyError)
        if is_busy and _OLD_NODE.search(str(exc)):
            raise ProviderError(
                f"{doing}: the machine under this sandbox is too old for snapshots without the memory. Pause "
                "the sandbox, resume it, which moves it to another one, and try again"
            ) from exc
        is_unknown = isinstance(exc, ProviderError) and exc.outcome == "unknown"
        if name is None and (is_unknown or not isinstance(exc, AgentHostError)):
            # A refused request is not on its way: the template is there, by an earlier try, or it is not.
            await _forget(vendor, called, looks=1 if is_busy else _LOOKS)
        if isinstance(exc, ConfigError) and _DISABLED.search(str(exc)):
            raise UnsupportedError(
                f"{doing}: E2B has not enabled snapshots without the memory for this account, and one with "
                "it would hold the sandbox's environment, secrets among it"
            ) from exc
        raise


async def _forget(vendor: E2BVendor, name: str, *, looks: int) -> None:
    """Remove a template that may be there, or appear. The log names one that could not be removed."""
    why = "E2B does not have it yet"
    with anyio.move_on_after(_CLEANUP, shield=True) as scope:
        for look in range(looks):
            if look:
                await anyio.sleep(_PAUSE)
            try:
                async with vendor.calling(f"removing the template {name}") as e2b:
                    if await e2b.AsyncSandbox.delete_snapshot(name) or looks == 1:
                        return
            except AgentHostError as error:
                why = str(error)
    if scope.cancelled_caught:
        why = f"E2B did not answer within {_CLEANUP:g} s"
    _log.warning("a template called %s may be left, or come to be: %s", name, why)
