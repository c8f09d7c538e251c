"""The vendor's client, bound to one account: loaded late, bounded in time, its errors translated."""

from __future__ import annotations

import atexit
import functools
import importlib
import importlib.util
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from agenthost.errors import (
    AgentHostError,
    MissingCredentialError,
    MissingExtraError,
    ProviderError,
    UnsupportedError,
)
from agenthost.threads import in_thread

if TYPE_CHECKING:
    from e2b import E2B, AsyncSandbox, AsyncTemplate

KEY = "E2B_API_KEY"
SECONDS = 60.0  # that a call may take, its retries included
# Seconds at the end of the process in which threads of the client's own, which is Rust below, let go of what
# is Python's. One that asks for it later aborts the process: 2 of 25 programs ended so, 0 of 81 with this.
_AT_EXIT = 0.1


class UnclearError(ProviderError):
    """E2B failed in a way that does not tell whether it did what it was asked to."""


class BusyError(ProviderError):
    """E2B refused for now. Its client may have tried before: what an earlier try did is not known by this."""


class Client:
    """Their classes, with an account of their own and without the vendor's process-wide defaults.

    Args:
        api_key: None is the environment's.
        domain: None is the vendor's default, which its own variables may change.
        api_url: Another control plane, an emulator's for instance.
        sandbox_url: Another way to the sandboxes.

    Raises:
        MissingExtraError: The vendor's package is not installed.
        MissingCredentialError: There is no key.
    """

    def __init__(
        self, *, api_key: str | None, domain: str | None, api_url: str | None, sandbox_url: str | None
    ) -> None:
        if importlib.util.find_spec("e2b") is None:
            raise MissingExtraError(
                "provider 'e2b' needs a package that is not installed. "
                "Install it: pip install 'agenthost[e2b]'"
            )
        key = api_key or os.environ.get(KEY)
        if not key:
            raise MissingCredentialError(f"the e2b provider needs a key: give api_key=..., or set {KEY}")
        given = {"api_key": key, "domain": domain, "api_url": api_url, "sandbox_url": sandbox_url}
        self._params: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        self._bound: E2B | None = None

    async def sandboxes(self) -> type[AsyncSandbox]:
        """Return the class of sandboxes."""
        return (await self._load()).AsyncSandbox

    async def templates(self) -> type[AsyncTemplate]:
        """Return the class of templates."""
        return (await self._load()).AsyncTemplate

    @asynccontextmanager
    async def asking(
        self, doing: str, *, within: float | None = SECONDS, secrets: tuple[str, ...] = ()
    ) -> AsyncGenerator[None]:
        """Bound what is asked in this block in time, and raise our errors for theirs."""
        await self._load()
        from agenthost.providers.e2b.errors import translate

        try:
            with anyio.fail_after(within):
                yield
        except AgentHostError:
            raise
        except Exception as exc:
            error = translate(exc, doing, *secrets)
            if not secrets:
                raise error from exc
            try:
                raise error
            finally:
                error.__context__ = None  # theirs may quote what was sent

    async def _load(self) -> E2B:
        refuse_trio()
        if self._bound is None:
            await anyio.lowlevel.checkpoint()
            e2b = await in_thread(_import_theirs)  # two seconds, the first time
            # ``debug`` is a mode in which nothing is asked of E2B, and a variable turns it on.
            bound: E2B = e2b.E2B(**self._params, debug=False, request_timeout=SECONDS)
            self._bound = bound
        return self._bound


@functools.cache
def _import_theirs() -> Any:
    atexit.register(time.sleep, _AT_EXIT)
    return importlib.import_module("e2b")


def refuse_trio() -> None:
    """Refuse an event loop that the vendor's client does not know. Without one nothing is asked of it.

    Raises:
        UnsupportedError: It says which one is needed.
    """
    try:
        cancelled = anyio.get_cancelled_exc_class()
    except RuntimeError:
        return
    if cancelled.__module__.partition(".")[0] == "trio":
        raise UnsupportedError(
            "the e2b provider cannot run on trio: E2B's client knows asyncio alone. "
            "Use anyio.run(main, backend='asyncio')"
        )
