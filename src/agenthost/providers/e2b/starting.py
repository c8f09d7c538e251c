"""Starting a program in a sandbox by E2B's commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from agenthost.providers.e2b.places import HOME, USER

if TYPE_CHECKING:
    from e2b import AsyncSandbox


async def start(sandbox: AsyncSandbox, command: str, *, within: float, **options: Any) -> Any:
    """Start a program; returns the vendor's handle of it. Raises the vendor's errors.

    Args:
        sandbox: Where.
        command: A line of the shell.
        within: Seconds until it has to be started.
        options: More for ``commands.run``.
    """
    # The time is ours, and none (0) is the client's: when what waits by that is cancelled, on Python 3.11 it
    # leaves a task whose error nobody fetches, and the event loop reports it.
    with anyio.fail_after(within):
        return await sandbox.commands.run(
            command, background=True, user=USER, cwd=HOME, request_timeout=0, retain_output=False, **options
        )
