"""Keep a sandbox's files as a template."""

from __future__ import annotations

import logging
import re
import secrets

import anyio

from agenthost.errors import AgentHostError, ConfigError, ProviderError, UnsupportedError
from agenthost.providers.e2b.client import BusyError, Client, UnclearError

_log = logging.getLogger("agenthost.providers.e2b")

_SECONDS = 300.0  # that one may take: it grows with what is on the disk
_CLEANUP = 30.0  # seconds that removing what may be there may take
_LOOKS = 4  # times that it is looked for: E2B may still be making it
_PAUSE = 3.0  # seconds between two of them
_UNSURE = (UnclearError, BusyError)  # it may have been made nevertheless
_DISABLED = re.compile(r"without memory\b.*\bnot enabled")
# What E2B says of a machine that is too old for it; its words are not known.
_OLD_NODE = re.compile(r"without memory|\bnode\b|orchestrator", re.IGNORECASE)


async def snapshot(client: Client, sandbox_id: str, doing: str, name: str | None) -> str:
    """Return the template of what a running sandbox has on its disk.

    Args:
        client: Whom to ask.
        sandbox_id: The sandbox.
        doing: What this is, in words.
        name: The template's, with a tag if need be. What has it already gets another build. None is one of
            its own: the client may ask again without making two, and what nobody got is found and removed.

    Raises:
        ConfigError: E2B does not take the name.
        UnsupportedError: E2B does not do this for the account.
        SandboxNotFoundError: The sandbox does not run.
        ProviderError: It could not be made; the message says when a pause and a resume would help.
    """
    called = name or f"agenthost-snapshot-{secrets.token_hex(8)}"
    try:
        async with client.asking(doing, within=_SECONDS):
            # E2B's own default keeps the memory too. That is no image: whatever began with it would go on
            # with the guest of this one, with its programs, its clock, and an environment full of secrets.
            made = await (await client.sandboxes()).create_snapshot(
                sandbox_id, called, mode="filesystem", request_timeout=_SECONDS
            )
        return made.snapshot_id
    except BaseException as exc:
        if isinstance(exc, BusyError) and _OLD_NODE.search(str(exc)):
            raise ProviderError(
                f"{doing}: the machine under this sandbox is too old for snapshots without the memory. Pause "
                "the sandbox, resume it, which moves it to another one, and try again"
            ) from exc
        if name is None and (not isinstance(exc, AgentHostError) or isinstance(exc, _UNSURE)):
            # One that was refused is not on its way: it is there, by a try before, or it is not.
            await _forget(client, called, looks=1 if isinstance(exc, BusyError) else _LOOKS)
        if isinstance(exc, ConfigError) and _DISABLED.search(str(exc)):
            raise UnsupportedError(
                f"{doing}: E2B has not enabled snapshots without the memory for this account, and one with "
                "it would hold the sandbox's environment, secrets among it"
            ) from exc
        raise


async def _forget(client: Client, name: str, *, looks: int) -> None:
    """Remove a template that may be there, or come. The log tells of one that could not be seen to."""
    why = "E2B does not have it yet"
    with anyio.move_on_after(_CLEANUP, shield=True) as scope:
        for look in range(looks):
            if look:
                await anyio.sleep(_PAUSE)
            try:
                async with client.asking(f"removing the template {name}"):
                    if await (await client.sandboxes()).delete_snapshot(name) or looks == 1:
                        return
            except AgentHostError as error:
                why = str(error)
    if scope.cancelled_caught:
        why = f"E2B did not answer within {_CLEANUP:g} s"
    _log.warning("a template called %s may be left, or come to be: %s", name, why)
