"""The sandbox that an agent lives in: found, made or given, and ended where it is the agent's to end."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import anyio

from agenthost.agent.names import new_agent_id
from agenthost.agent.plan import Plan, check_injection, check_isolation, check_network
from agenthost.agent.progress import Reporter
from agenthost.errors import SandboxGoneError, SandboxNotFoundError
from agenthost.owned import disown, hand_on, own
from agenthost.prewarming import Prewarmed, take_prewarmed
from agenthost.registry import open_provider
from agenthost.sandbox import Sandbox, SandboxProvider

_log = logging.getLogger("agenthost.agent")

_TERMINATE_SECONDS = 30.0


class Place:
    """Opens the sandbox of a plan.

    Attributes:
        begun: The agent that began with the sandbox, if one did.
        owned: Whether leaving the block ends the sandbox.
    """

    def __init__(self, plan: Plan, report: Reporter) -> None:
        self.begun: str | None = None
        self.owned = plan.sandbox is None and plan.attachment is None
        self._provider_name = ""
        self._sandbox: Sandbox | None = None
        self._plan = plan
        self._report = report
        self._warm: Prewarmed | None = None
        self._registered = False

    @property
    def is_warm(self) -> bool:
        """Whether the sandbox was started ahead."""
        return self._warm is not None

    def take(self) -> None:
        """Own the sandbox that was attached to from now on, if the ref says so."""
        attachment = self._plan.attachment
        if attachment is not None and attachment.owned and self._sandbox is not None:
            self._own()

    def _own(self) -> None:
        if self._sandbox is not None:
            self.owned = self._registered = True
            own(self._sandbox.provider, self._sandbox.id, opened_as=self._provider_name)

    def leave(self) -> None:
        """Let the sandbox run on when the block is left, and when this program ends."""
        self.owned = False
        if self._registered and self._sandbox is not None:
            self._registered = False
            hand_on(self._sandbox.provider, self._sandbox.id)

    def _disown(self) -> None:
        if self._registered and self._sandbox is not None:
            self._registered = False
            disown(self._sandbox.provider, self._sandbox.id)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Sandbox]:
        """Yield the sandbox."""
        plan = self._plan
        if plan.sandbox is not None:
            yield plan.sandbox
        elif isinstance(plan.provider, str):
            options: dict[str, object] = {"limits": plan.limits} if plan.limits_given else {}
            # The runner that waits there was given the model's port: not for credentials="env".
            if plan.access is not None and plan.attachment is None:
                self._warm = take_prewarmed(plan.provider, plan.spec)
            async with open_provider(plan.provider, **options) as provider, self._in(provider) as sandbox:
                yield sandbox
        else:
            assert plan.provider is not None
            async with self._in(plan.provider) as sandbox:
                yield sandbox

    @asynccontextmanager
    async def _in(self, provider: SandboxProvider) -> AsyncGenerator[Sandbox]:
        plan = self._plan
        if plan.attachment is None:
            check_isolation(plan, provider.capabilities.isolation, f"provider {provider.name!r}")
            check_injection(plan, provider.capabilities.header_injection, f"provider {provider.name!r}")
            check_network(plan, provider.capabilities.default_network, f"provider {provider.name!r}")
            what = "starting a sandbox" if self._warm is None else "taking the sandbox that was started ahead"
            self._report.tell("sandbox", f"{what} ({provider.name})")
        # One that was started ahead is ours to end: a cancellation waits until there is something to end.
        sandbox: Sandbox | None = None
        with anyio.CancelScope(shield=self._warm is not None):
            sandbox = await self._obtain(provider)
        assert sandbox is not None
        self._provider_name, self._sandbox = provider.name, sandbox
        if self.owned:
            self._own()
        try:
            self._report.tell("sandbox", f"sandbox {sandbox.name} runs")
            yield sandbox
        finally:
            if self.owned:
                with anyio.move_on_after(_TERMINATE_SECONDS, shield=True) as scope:
                    await sandbox.terminate()
                    self._disown()
                if scope.cancelled_caught:
                    _log.error("sandbox %s did not end within %g s", sandbox.name, _TERMINATE_SECONDS)

    async def _obtain(self, provider: SandboxProvider) -> Sandbox:
        from agenthost.adapter.provider import GuestProvider

        if self._plan.attachment is not None:
            self._report.tell("sandbox", f"reaching sandbox {self._plan.attachment.sandbox}")
            return await provider.get(self._plan.attachment.sandbox)
        if self._warm is not None and isinstance(provider, GuestProvider):
            try:
                sandbox = await provider.get(await self._warm.sandbox_id())
            except (SandboxNotFoundError, SandboxGoneError):
                self._report.tell("sandbox", "it has ended by now: starting another one")
                self._warm = None
            else:
                self.begun = self._warm.agent_id
                if self._plan.options.callbacks.servers and not self._warm.mcp:
                    _log.warning("the agent has in-process MCP servers: prewarm(mcp=True) starts it sooner")
                return sandbox
        if not isinstance(provider, GuestProvider):
            return await provider.create(self._plan.spec)
        tell = partial(self._report.tell, "sandbox")
        # An agent that begins with its sandbox has the model's port: not for credentials="env".
        if self._plan.access is not None:
            self.begun = new_agent_id()
        mcp = bool(self._plan.options.callbacks.servers)
        return await provider.create(
            self._plan.spec, agent_id=self.begun, mcp=mcp, needs_sdk=True, on_progress=tell
        )
