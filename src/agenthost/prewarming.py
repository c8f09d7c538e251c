"""A sandbox with a booted runner, started before it is needed.

The start runs in a thread with an event loop of its own, so that ``prewarm`` can be the first line of a
program: the sandbox boots and imports the SDK while the program still imports it, too. The sandbox then
waits without a link, as after a host has died; the HostedAgent that takes it dials it anew.
"""

from __future__ import annotations

import atexit
import secrets
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio

from agenthost.errors import SandboxStartError, UnsupportedError
from agenthost.forked import after_fork
from agenthost.owned import disown, end_all, end_sandbox, own
from agenthost.registry import open_provider, options_of
from agenthost.spec import DEFAULT_LIFETIME, SandboxSpec, require
from agenthost.threads import in_thread

if TYPE_CHECKING:
    from agenthost.adapter.provider import GuestProvider

# Seconds that ``prewarm`` waits for the start to get going: beside an import it has to share the
# interpreter's lock. With 0, 0.03, 0.06 and 0.1 the first message of a program came after about 1.5, 1.4,
# 1.3 and 1.3 s (medians of three).
_HEAD_START = 0.08
_FRESH = 0.25  # how much of its lifetime a sandbox may have waited
_READY = b'"state":"ready"'

_lock = threading.Lock()
_waiting: list[Prewarmed] = []


def _forget() -> None:
    """Leave to the parent what waits: two processes must not take the same sandbox."""
    global _lock
    _lock = threading.Lock()
    _waiting.clear()


after_fork(_forget)


class Prewarmed:
    """One sandbox that is being started, or waits. ``async with`` or ``with`` ends it if no agent took it."""

    def __init__(self, provider: str, spec: SandboxSpec, *, mcp: bool = False) -> None:
        self.provider = provider
        self.spec = spec
        self.mcp = mcp
        self.agent_id = "agent-" + secrets.token_hex(6)
        self._kind = ""  # what the sandbox says of its provider
        self._sandbox_id: str | None = None
        self._error: Exception | None = None
        self._started = threading.Event()
        self._taken = False
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="agenthost-prewarm", daemon=True)

    def __enter__(self) -> Self:
        """Do nothing: it is under way since ``prewarm``."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the sandbox if no agent took it."""
        self.close()

    async def wait_booted(self) -> None:
        """Return when the runner inside has imported the SDK. Raises what went wrong."""
        sandbox_id = await self.sandbox_id()
        async with _open(self.provider) as provider:
            sandbox = await provider.get(sandbox_id)
            # An observer changes nothing.
            async with sandbox.observe_agent(self.agent_id) as journal:
                seen = b""
                while _READY not in seen and (data := await journal.receive()):
                    seen += data

    async def sandbox_id(self) -> str:
        """Return the sandbox's id once it runs. Raises what went wrong."""
        await in_thread(self._started.wait, abandon=True)
        if self._sandbox_id is None:
            raise self._error or SandboxStartError("a sandbox that was started ahead did not start")
        return self._sandbox_id

    def close(self) -> None:
        """End the sandbox if no agent took it. Idempotent; blocks until it has ended."""
        self.begin_end().join()

    def begin_end(self) -> threading.Thread:
        """Begin to end it, in a thread: an event loop may be running in this one."""
        ending = threading.Thread(target=self.end_here)
        ending.start()
        return ending

    async def __aenter__(self) -> Self:
        """Do nothing: it is under way since ``prewarm``."""
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the sandbox if no agent took it, without blocking the event loop."""
        with anyio.CancelScope(shield=True):
            await in_thread(self.close)

    def end_here(self) -> None:
        """For ``close``: end it in this thread, in which no event loop runs."""
        with _lock:
            if self._taken:
                return
            self.take()
        self.settle()
        if self._sandbox_id is not None:
            anyio.run(end_sandbox, self.provider, self._sandbox_id)
            disown(self._kind, self._sandbox_id)

    @property
    def is_fresh(self) -> bool:
        """Whether an agent that takes it now gets most of its lifetime."""
        lifetime = self.spec.max_lifetime or DEFAULT_LIFETIME
        return time.monotonic() - self._began <= lifetime * _FRESH

    def settle(self) -> None:
        """Return when it has been started or has failed."""
        self._thread.join()

    def begin(self, head_start: float) -> None:
        """For ``prewarm``: start, and leave the interpreter to it for a moment."""
        self._thread.start()
        self._started.wait(head_start)

    def take(self) -> None:
        """For ``take_prewarmed``: an agent has it now."""
        self._taken = True
        if self in _waiting:  # in a forked child nothing waits any more
            _waiting.remove(self)

    def _run(self) -> None:
        try:
            anyio.run(self._start)
        except Exception as error:  # noqa: BLE001 - raised again where the sandbox is asked for
            self._error = error
        finally:
            self._started.set()

    async def _start(self) -> None:
        async with _open(self.provider) as provider:
            self._sandbox_id = await provider.launch(self.spec, agent_id=self.agent_id, mcp=self.mcp)
            self._kind = provider.name
            own(self._kind, self._sandbox_id, opened_as=self.provider)


def prewarm(provider: str = "local", *, spec: SandboxSpec | None = None, mcp: bool = False) -> Prewarmed:
    """Start a sandbox with a booted runner now, for the next HostedAgent that asks for the same.

    Returns at once. The next HostedAgent of this process with the same provider name and an equal spec
    takes it, whatever its options; not when more than a quarter of its lifetime has passed, it is ended
    then. One that nobody took is ended by ``close``, at the program's end or, failing both, at its lifetime.

    Args:
        provider: A name that ``open_provider`` takes.
        spec: As for HostedAgent.
        mcp: Whether the agent will have in-process MCP servers. The runner imports what these need then,
            which takes 0.4 to 3 s. An agent that has such servers and finds no such runner waits for the
            import, and the logger ``agenthost.agent`` warns of it.

    Raises:
        UnknownProviderError: No provider has this name. Everything else is raised by the agent.
    """
    # Loads what the thread needs, here where nothing competes with it; the SDK imports most of it anyway.
    _open(provider)
    try:
        anyio.get_current_task()
    except anyio.NoEventLoopError:
        anyio.run(anyio.sleep, 0)
        head_start = _HEAD_START
    else:
        head_start = 0.0  # an event loop is not to be blocked
    if spec is not None:
        require("spec", spec, SandboxSpec, "a SandboxSpec")
    warm = Prewarmed(provider, spec or SandboxSpec(), mcp=mcp)
    with _lock:
        if not _waiting:
            atexit.register(_close_all)
        _waiting.append(warm)
    warm.begin(head_start)
    return warm


def take_prewarmed(provider: str, spec: SandboxSpec) -> Prewarmed | None:
    """Return the one that was started first for this, if there is one; it is the caller's from now on."""
    stale: list[Prewarmed] = []
    found: Prewarmed | None = None
    with _lock:
        for warm in tuple(_waiting):
            same = warm.provider == provider and options_of(warm.provider) == options_of(provider)
            if found is None and same and warm.spec == spec:
                if warm.is_fresh:
                    warm.take()
                    found = warm
                else:
                    stale.append(warm)
    for warm in stale:
        warm.begin_end()
    return found


def _close_all() -> None:
    """Program end: leave no sandbox that nobody took, also none that is just being made."""
    for warm in tuple(_waiting):
        warm.settle()
    end_all()


def _open(name: str) -> GuestProvider:
    """Return a provider that can start an agent with its sandbox."""
    from agenthost.adapter.provider import GuestProvider

    provider = open_provider(name)
    if not isinstance(provider, GuestProvider):
        raise UnsupportedError(f"provider {name!r} starts no sandbox ahead: it brings no guest of ours")
    return provider
