"""Which files of the working directory changed, by their digests: looked at before the first turn, after each
one, and at the end.

The look is a program in the sandbox. It finds what any program changed, not who changed it.
"""

from __future__ import annotations

import logging
from typing import Any

import anyio

from agenthost.agent.audit.trail import AuditTrail
from agenthost.errors import AgentError, AgentHostError
from agenthost.files.digests import digest_dir
from agenthost.sandbox import Sandbox

_log = logging.getLogger("agenthost.agent")

_LOOK_SECONDS = 10.0  # for one look; the program inside stops by itself after fewer


class WorkdirWatch:
    """Looks at the working directory of one agent when a turn has ended."""

    def __init__(self, trail: AuditTrail, sandbox: Sandbox) -> None:
        self._trail = trail
        self._sandbox = sandbox
        self._news = anyio.Event()
        self._begun = anyio.Event()
        self._over = False
        trail.on_turn_end = self._wake

    async def run(self) -> None:
        """Look now, and after each turn, until ``finish`` is called."""
        if not self._trail.is_on:
            self._begun.set()
            return
        try:
            await self._look()
        finally:
            self._begun.set()
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            if self._over:
                return
            await self._look()

    async def begun(self) -> None:
        """Return when the first look is over."""
        await self._begun.wait()

    async def finish(self) -> None:
        """Look for the last time."""
        self._over = True
        self._news.set()
        await self._look()

    def _wake(self) -> None:
        self._news.set()

    async def _look(self) -> None:
        if self._trail.is_on:
            try:
                await self._compare()
            except AgentError as error:
                _log.error("%s", error)  # the next event of the agent ends it for the same reason

    async def _compare(self) -> None:
        trail = self._trail
        try:
            with anyio.fail_after(_LOOK_SECONDS):
                found = await digest_dir(self._sandbox, self._sandbox.workdir)
        except (AgentHostError, OSError) as error:  # TimeoutError is an OSError
            _log.debug("the working directory could not be looked at: %s", error)
            trail.workdir(error=type(error).__name__)
            return
        before, after = trail.files, found.files
        gone = sorted(before.keys() - after.keys())
        changes: dict[str, Any] = {
            "added": {path: one for path, one in after.items() if path not in before},
            "changed": {path: one for path, one in after.items() if path in before and before[path] != one},
            # A look that was cut short does not tell whether the files that it did not reach still exist.
            "removed" if found.complete else "unseen": gone,
        }
        if any(changes.values()) or not found.complete:
            trail.workdir(**changes, complete=found.complete)
