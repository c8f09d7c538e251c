"""Finds sandboxes and the agents in them. Changes nothing and waits for nobody."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from agenthost.agent import AgentRef
from agenthost.cli.configured_providers import Opened, Where, open_providers
from agenthost.errors import (
    AccessDeniedError,
    AgentError,
    AgentHostError,
    ConfigError,
    ProviderError,
    SandboxGoneError,
    SandboxNotFoundError,
)
from agenthost.link.agents import AgentStatus
from agenthost.link.client import GuestSandbox
from agenthost.sandbox import SandboxInfo, SandboxProvider

PATIENCE = 10.0  # seconds that one sandbox may take to answer
_LISTING = 30.0  # seconds for a provider's list, in which its client may have to be imported first
_AT_ONCE = 16  # sandboxes asked at once
_NAMED = 10  # candidates that an error names
_START_ONE = 'start one: agenthost run --detach "Fix the failing test" --workspace ./app'


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One sandbox, as it was found.

    Attributes:
        provider: Whose it is.
        info: What the provider says of it.
        sandbox: Its guest, None when that cannot be asked.
        agents: Who lives there, oldest first.
        expires_at: Seconds since the epoch at which it ends unless a driver comes; None is never.
        problem: Why it cannot be asked.
    """

    provider: SandboxProvider
    info: SandboxInfo
    sandbox: GuestSandbox | None = None
    agents: tuple[AgentStatus, ...] = ()
    expires_at: float | None = None
    problem: str = ""

    @property
    def title(self) -> str:
        """How it is called in a sentence."""
        return f"sandbox {self.info.name} ({self.info.provider})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One agent.

    Attributes:
        seen: The sandbox that it lives in.
        sandbox: Its guest.
        status: What the guest tells of it.
        ref: What it was named by, where that was a ref.
    """

    seen: Seen
    sandbox: GuestSandbox
    status: AgentStatus
    ref: AgentRef | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self.status.agent


class Finder:
    """Looks through open providers. The links that it makes live as long as their blocks.

    Attributes:
        again: What another command's line needs to find the same, with a space before it.
    """

    def __init__(self, opened: Opened, *, strict: bool) -> None:
        self.again = opened.again
        self._opened = opened
        self._strict = strict

    async def sandboxes(self, *, only: str | None = None) -> list[Seen]:
        """Return every sandbox, newest first within a provider; one that does not answer says so.

        Args:
            only: The name of an agent, or the name or id of a sandbox: the others are asked only as far as
                is needed to find it.
        """
        infos = [
            (provider, info)
            for provider in self._opened.providers.values()
            for info in await self._list(provider)
        ]
        named = [(provider, info) for provider, info in infos if only in (info.id, info.name)]
        found: dict[int, Seen] = {}
        limiter = anyio.CapacityLimiter(_AT_ONCE)
        async with anyio.create_task_group() as tasks:

            async def ask(number: int, provider: SandboxProvider, info: SandboxInfo) -> None:
                async with limiter:
                    seen = await _see(provider, info)
                if seen is not None:
                    found[number] = seen
                    if only is not None and any(one.agent == only for one in seen.agents):
                        tasks.cancel_scope.cancel()

            for number, (provider, info) in enumerate(named or infos):
                tasks.start_soon(ask, number, provider, info)
        return [found[number] for number in sorted(found)]

    async def agent(self, text: str) -> Found:
        """Return the agent of this name, of a unique beginning of it, of its sandbox, or of this ref.

        Raises:
            AgentError: There is none; the message says which there are.
            ConfigError: There are more than one.
        """
        if text.lstrip().startswith("{"):
            return await self._by_ref(AgentRef.from_json(text))
        return self.match(text, await self.sandboxes(only=text))

    def match(self, text: str, seen: Sequence[Seen]) -> Found:
        """Return which of these agents a text names, as ``agent`` does."""
        try:
            return match_agent(text, seen)
        except AgentError as error:
            raise AgentError("\n".join([str(error), *self.problems(), *self.notices()])) from None

    def problems(self) -> list[str]:
        """Return why providers that are set up could not be asked for their sandboxes."""
        return [
            f"provider {name} cannot be asked: {problem}" for name, problem in self._opened.problems.items()
        ]

    def notices(self) -> list[str]:
        """Return what to say about the providers that are not set up."""
        return self._opened.notices()

    async def _by_ref(self, ref: AgentRef) -> Found:
        for seen in await self.sandboxes(only=ref.sandbox):
            if seen.info.id == ref.sandbox and seen.info.provider == ref.provider:
                for found in _agents_of(seen):
                    if found.name == ref.agent:
                        return Found(seen=seen, sandbox=found.sandbox, status=found.status, ref=ref)
                raise AgentError(seen.problem or f"{seen.title} has no agent {ref.agent} any more")
        why = self._opened.why_not(ref.provider)
        if why:
            raise AgentError(
                f"whether sandbox {ref.sandbox_name} still exists is not known: provider {ref.provider} "
                f"cannot be asked: {why}"
            )
        raise AgentError(f"there is no sandbox {ref.sandbox_name} ({ref.provider}) any more")

    async def _list(self, provider: SandboxProvider) -> list[SandboxInfo]:
        try:
            with anyio.fail_after(_LISTING):
                return [info async for info in provider.list()]
        except (AgentHostError, OSError) as error:
            why = str(error) or f"no answer within {_LISTING:g} s"
            if self._strict and str(error):
                raise
            if self._strict:
                raise ProviderError(f"provider {provider.name}: {why}") from error
            self._opened.problems[provider.name] = why
            return []


@asynccontextmanager
async def open_finder(where: Where | None = None) -> AsyncGenerator[Finder]:
    """Open the providers that were named, or every one that works here. Raises as ``open_providers``."""
    where = where or Where()
    async with open_providers(where) as opened:
        yield Finder(opened, strict=bool(where.named))


def match_agent(text: str, seen: Sequence[Seen]) -> Found:
    """Return what a text names: an agent's name, a sandbox's, or a beginning that only one has."""
    agents = [found for one in seen for found in _agents_of(one)]
    named = [found for found in agents if found.name == text]
    in_named = [one for one in seen if text in (one.info.name, one.info.id)]
    if not named and in_named:
        named = [found for one in in_named for found in _agents_of(one)]
        if not named:
            why = in_named[0].problem
            raise AgentError(f"{in_named[0].title} " + (f"cannot be asked: {why}" if why else "has no agent"))
    if not named and text:
        named = [
            found for found in agents if found.name.startswith(text) or found.seen.info.name.startswith(text)
        ]
    if not named:
        raise AgentError(f"there is no agent {text!r}. {tell_agents(agents)}")
    if len(named) > 1:
        raise ConfigError(f"{text!r} names more than one agent. {tell_agents(named)}")
    return named[0]


def match_sandbox(text: str, seen: Sequence[Seen]) -> Seen | None:
    """Return the sandbox that has this name or id, or alone begins so; else None."""
    exact = [one for one in seen if text in (one.info.name, one.info.id)]
    found = exact or [one for one in seen if text and one.info.name.startswith(text)]
    return found[0] if len(found) == 1 else None


def tell_agents(agents: Sequence[Found]) -> str:
    """Return which agents there are, in a sentence."""
    if not agents:
        return f"No agent is there; {_START_ONE}"
    names = [f"{found.name} in {found.seen.title}" for found in agents[:_NAMED]]
    more = [f"{len(agents) - _NAMED} more"] if len(agents) > _NAMED else []
    return f"There are: {', '.join([*names, *more])}"


def tell_none() -> str:
    """Return what to say where there is no agent at all."""
    return f"no agents; {_START_ONE}"


def _agents_of(seen: Seen) -> list[Found]:
    if seen.sandbox is None:
        return []
    return [Found(seen=seen, sandbox=seen.sandbox, status=status) for status in seen.agents]


async def _see(provider: SandboxProvider, info: SandboxInfo) -> Seen | None:
    """Ask a sandbox for its agents; None when it has ended meanwhile."""
    problem = f"no answer within {PATIENCE:g} s"
    with anyio.move_on_after(PATIENCE):
        try:
            sandbox = await provider.get(info.id)
            if not isinstance(sandbox, GuestSandbox):
                return Seen(provider=provider, info=info, problem="its agents end with their host")
            return Seen(
                provider=provider,
                info=info,
                sandbox=sandbox,
                agents=tuple(await sandbox.agents()),
                expires_at=await _end_of(sandbox),
            )
        except (SandboxNotFoundError, SandboxGoneError):
            return None
        except AccessDeniedError:
            problem = "it was made with another deployment secret"
        except (AgentHostError, OSError) as error:
            problem = " ".join(str(error).split()) or type(error).__name__
    return Seen(provider=provider, info=info, expires_at=info.expires_at, problem=problem)


async def _end_of(sandbox: GuestSandbox) -> float | None:
    kept = await sandbox.kept_for()
    ends = [(await sandbox.info()).expires_at, None if kept is None else time.time() + kept]
    return min((end for end in ends if end is not None), default=None)
